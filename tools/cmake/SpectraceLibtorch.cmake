# libtorch, from the Python wheel by own targets: the wheel's find_package(Torch) insists on a CUDA toolkit even where
# only the CPU part is used.
if(NOT SPECTRACE_TORCH_DIR)
  execute_process(COMMAND ${SPECTRACE_PYTHON} -c "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
    OUTPUT_VARIABLE torch_dir OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE failed ERROR_QUIET)
  if(failed)
    message(FATAL_ERROR "no torch package in ${SPECTRACE_PYTHON}: run tools/setup, or point SPECTRACE_PYTHON or SPECTRACE_TORCH_DIR to one")
  endif()
  set(SPECTRACE_TORCH_DIR ${torch_dir} CACHE PATH "the torch package's folder" FORCE)
endif()
if(NOT EXISTS ${SPECTRACE_TORCH_DIR}/lib/libtorch_cpu.so)
  message(FATAL_ERROR "no lib/libtorch_cpu.so in ${SPECTRACE_TORCH_DIR} (SPECTRACE_TORCH_DIR). Is it the folder of a torch package or of a libtorch?")
endif()
if(NOT EXISTS ${SPECTRACE_TORCH_DIR}/include/torch/headeronly/version.h)
  message(FATAL_ERROR "the torch package in ${SPECTRACE_TORCH_DIR} is older than 2.10 (it has no include/torch/headeronly/version.h). Point SPECTRACE_TORCH_DIR to a newer one")
endif()
add_library(spectrace_libtorch INTERFACE)
add_library(spectrace::libtorch ALIAS spectrace_libtorch)
# Searched after the system's headers: the wheel brings an fmt of its own there, which is not the one that is linked.
target_compile_options(spectrace_libtorch INTERFACE "SHELL:-idirafter ${SPECTRACE_TORCH_DIR}/include")
target_link_libraries(spectrace_libtorch INTERFACE ${SPECTRACE_TORCH_DIR}/lib/libtorch_cpu.so ${SPECTRACE_TORCH_DIR}/lib/libc10.so)
# The wheel's CUDA parts that libtorch_cpu.so needs lie beside it; its own rpath finds them at run time.
target_link_options(spectrace_libtorch INTERFACE LINKER:--allow-shlib-undefined)
# CUDA: libtorch's CUDA part is opened when a run asks for it (src/numerics/device.cpp), so every build can use a GPU. Only
# NCCL is linked, by one source; without SPECTRACE_CUDA its target is for tests/device alone, where there is all it takes.
set(required "")
if(SPECTRACE_CUDA)
  set(required REQUIRED)
endif()
find_package(CUDAToolkit ${required} QUIET)

# Header and library of one NCCL, so of one place: torch's own wheel, whose library libtorch's CUDA part loads; else the
# toolkit; else where the system has the header. SPECTRACE_NCCL_INCLUDE and SPECTRACE_NCCL_LIBRARY name others.
function(spectrace_find_nccl)
  set(places ${SPECTRACE_TORCH_DIR}/../nvidia/nccl ${CUDAToolkit_LIBRARY_ROOT} ${CUDAToolkit_BIN_DIR}/..)
  find_path(of_system nccl.h NO_CACHE)
  if(of_system)
    file(REAL_PATH ${of_system}/nccl.h header)
    list(APPEND places ${of_system}/.. ${header}/../..)
  endif()
  foreach(place IN LISTS places)
    unset(include)
    unset(library)
    find_path(include nccl.h PATHS ${place}/include NO_DEFAULT_PATH NO_CACHE)
    find_library(library NAMES nccl libnccl.so.2 PATHS ${place} PATH_SUFFIXES lib lib64 lib/${CMAKE_LIBRARY_ARCHITECTURE}
      NO_DEFAULT_PATH NO_CACHE)
    if(include AND library)
      set(SPECTRACE_NCCL_INCLUDE ${include} PARENT_SCOPE)
      set(SPECTRACE_NCCL_LIBRARY ${library} PARENT_SCOPE)
      return()
    endif()
  endforeach()
endfunction()
if(NOT SPECTRACE_NCCL_INCLUDE OR NOT SPECTRACE_NCCL_LIBRARY)
  spectrace_find_nccl()
endif()
if(CUDAToolkit_FOUND AND SPECTRACE_NCCL_INCLUDE AND SPECTRACE_NCCL_LIBRARY)
  add_library(spectrace_nccl INTERFACE)
  target_compile_definitions(spectrace_nccl INTERFACE SPECTRACE_WITH_CUDA)
  target_include_directories(spectrace_nccl SYSTEM INTERFACE ${SPECTRACE_NCCL_INCLUDE})
  target_link_libraries(spectrace_nccl INTERFACE ${SPECTRACE_NCCL_LIBRARY} CUDA::cudart)
elseif(SPECTRACE_CUDA)
  message(FATAL_ERROR "no NCCL whose nccl.h and library lie in one place: tools/setup --cuda brings one; SPECTRACE_NCCL_INCLUDE and SPECTRACE_NCCL_LIBRARY name another")
endif()

# Others' headers that are slow to parse, parsed once for all sources: libtorch's alone cost ten seconds each time otherwise.
function(spectrace_precompiled name)
  cmake_parse_arguments(ARG "" "" "LINKS;HEADERS" ${ARGN})
  add_library(${name} OBJECT ${CMAKE_SOURCE_DIR}/tools/cmake/precompiled.cpp)
  target_link_libraries(${name} PRIVATE ${ARG_LINKS} spectrace::libtorch fmt::fmt nlohmann_json::nlohmann_json spectrace_options)
  target_precompile_headers(${name} PRIVATE <ATen/ATen.h> <nlohmann/json.hpp> <fmt/format.h> <fmt/ranges.h> <filesystem> <fstream>
    <functional> <map> <set> <thread> <variant> ${ARG_HEADERS})
endfunction()

spectrace_precompiled(spectrace_pch)
if(SPECTRACE_TESTS)
  # GoogleTest first: the wheel's libtorch is known to clash with it otherwise.
  spectrace_precompiled(spectrace_tests_pch LINKS GTest::gtest HEADERS <gtest/gtest.h>)
  set_target_properties(spectrace_tests_pch PROPERTIES SPECTRACE_IS_TEST ON)
endif()
