# Third-party parts, each as a target. libtorch comes from the Python wheel by own imported targets: the wheel's
# find_package(Torch) insists on a CUDA toolkit even where only the CPU part is used.
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json 3.10 REQUIRED)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
find_package(PkgConfig REQUIRED)
pkg_check_modules(xxhash REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(pcre2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(utf8proc REQUIRED IMPORTED_TARGET libutf8proc)

find_path(SPECTRACE_VALIJSON_INCLUDE valijson/validator.hpp REQUIRED)
add_library(spectrace_valijson INTERFACE)
add_library(spectrace::valijson ALIAS spectrace_valijson)
target_include_directories(spectrace_valijson SYSTEM INTERFACE ${SPECTRACE_VALIJSON_INCLUDE})

# libtorch
if(NOT SPECTRACE_TORCH_DIR)
  execute_process(COMMAND ${SPECTRACE_PYTHON} -c "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
    OUTPUT_VARIABLE torch_dir OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE failed ERROR_QUIET)
  if(failed)
    message(FATAL_ERROR "no torch package in ${SPECTRACE_PYTHON}: run tools/setup, or point SPECTRACE_PYTHON or SPECTRACE_TORCH_DIR to one")
  endif()
  set(SPECTRACE_TORCH_DIR ${torch_dir} CACHE PATH "the torch package's folder" FORCE)
endif()
add_library(spectrace_libtorch INTERFACE)
add_library(spectrace::libtorch ALIAS spectrace_libtorch)
# Searched after the system's headers: the wheel brings an fmt of its own there, which is not the one that is linked.
target_compile_options(spectrace_libtorch INTERFACE "SHELL:-idirafter ${SPECTRACE_TORCH_DIR}/include")
target_link_libraries(spectrace_libtorch INTERFACE ${SPECTRACE_TORCH_DIR}/lib/libtorch_cpu.so ${SPECTRACE_TORCH_DIR}/lib/libc10.so)
# The wheel's CUDA parts that libtorch_cpu.so needs lie beside it; its own rpath finds them at run time.
target_link_options(spectrace_libtorch INTERFACE LINKER:--allow-shlib-undefined)
if(SPECTRACE_CUDA)
  find_package(CUDAToolkit REQUIRED)
  target_compile_definitions(spectrace_libtorch INTERFACE SPECTRACE_WITH_CUDA)
  # Nothing refers to libtorch_cuda.so by name: it registers its kernels when it is loaded.
  target_link_libraries(spectrace_libtorch INTERFACE -Wl,--no-as-needed ${SPECTRACE_TORCH_DIR}/lib/libtorch_cuda.so
    ${SPECTRACE_TORCH_DIR}/lib/libc10_cuda.so -Wl,--as-needed CUDA::cudart)
  find_path(SPECTRACE_NCCL_INCLUDE nccl.h HINTS ${SPECTRACE_TORCH_DIR}/../nvidia/nccl/include REQUIRED)
  find_library(SPECTRACE_NCCL_LIBRARY NAMES nccl libnccl.so.2 HINTS ${SPECTRACE_TORCH_DIR}/../nvidia/nccl/lib REQUIRED)
  add_library(spectrace_nccl INTERFACE)
  target_include_directories(spectrace_nccl SYSTEM INTERFACE ${SPECTRACE_NCCL_INCLUDE})
  target_link_libraries(spectrace_nccl INTERFACE ${SPECTRACE_NCCL_LIBRARY} CUDA::cudart)
  set(SPECTRACE_NCCL_TARGET spectrace_nccl)
endif()

if(NOT SPECTRACE_CORE_ONLY)
  # The C interface only: Debian's MPI_CXX links the bindings that MPI-3 removed.
  enable_language(C)
  find_package(MPI REQUIRED COMPONENTS C)
  add_library(spectrace_mpi INTERFACE)
  add_library(spectrace::mpi ALIAS spectrace_mpi)
  target_link_libraries(spectrace_mpi INTERFACE MPI::MPI_C)
  target_compile_definitions(spectrace_mpi INTERFACE OMPI_SKIP_MPICXX MPICH_SKIP_MPICXX)
  # The launcher is a variable, so that the same tests run under srun (-DSPECTRACE_LAUNCHER="srun;--mpi=pmix;-n").
  set(SPECTRACE_LAUNCHER "${MPIEXEC_EXECUTABLE};${MPIEXEC_NUMPROC_FLAG}" CACHE STRING "command that starts N ranks, N following")

  find_package(HDF5 REQUIRED COMPONENTS C HL)
  add_library(spectrace_hdf5 INTERFACE)
  add_library(spectrace::hdf5 ALIAS spectrace_hdf5)
  target_include_directories(spectrace_hdf5 SYSTEM INTERFACE ${HDF5_C_INCLUDE_DIRS})
  target_link_libraries(spectrace_hdf5 INTERFACE ${HDF5_C_HL_LIBRARIES} ${HDF5_C_LIBRARIES} $<$<BOOL:${HDF5_IS_PARALLEL}>:MPI::MPI_C>)
  target_compile_definitions(spectrace_hdf5 INTERFACE H5_USE_110_API)

  find_package(CLI11 2.1 REQUIRED)
endif()

# libtorch's headers, parsed once for all sources: they cost ten seconds each time otherwise.
add_library(spectrace_pch OBJECT ${CMAKE_SOURCE_DIR}/tools/cmake/precompiled.cpp)
target_link_libraries(spectrace_pch PRIVATE spectrace::libtorch spectrace_options)
target_precompile_headers(spectrace_pch PRIVATE <ATen/ATen.h>)

if(SPECTRACE_TESTS)
  find_package(GTest REQUIRED)
endif()
