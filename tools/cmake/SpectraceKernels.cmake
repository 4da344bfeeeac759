# Inner loops of numerics are compiled once for each kind of vector instructions and chosen when the program runs, so the
# program needs no processor like that of the machine it was built on.
# Loops of a known small length are unrolled, so that vectors stay in registers.
set(SPECTRACE_KERNEL_OPTIONS $<$<NOT:$<CONFIG:Debug>>:-O3>)
set(SPECTRACE_KERNEL_OPTIONS_symmetric_kernels -ffp-contract=off -fno-math-errno)
foreach(kernels bulge_chasing symmetric_kernels level_sums_kernel)
  set(path ${CMAKE_SOURCE_DIR}/src/numerics/${kernels})
  set(options ${SPECTRACE_KERNEL_OPTIONS} ${SPECTRACE_KERNEL_OPTIONS_${kernels}})
  set_source_files_properties(${path}_baseline.cpp PROPERTIES SKIP_PRECOMPILE_HEADERS ON COMPILE_OPTIONS "${options}")
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
    set_source_files_properties(${path}_avx2.cpp PROPERTIES SKIP_PRECOMPILE_HEADERS ON COMPILE_OPTIONS "${options};-mavx2;-mfma")
    set_source_files_properties(${path}_avx512.cpp PROPERTIES SKIP_PRECOMPILE_HEADERS ON
      COMPILE_OPTIONS "${options};-mavx512f;-mavx512dq;-mfma;-mprefer-vector-width=512")
  else()
    set_source_files_properties(${path}_avx2.cpp ${path}_avx512.cpp PROPERTIES HEADER_FILE_ONLY ON)
  endif()
endforeach()
set(path ${CMAKE_SOURCE_DIR}/src/numerics/matrix_product_avx512.cpp)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
  set_source_files_properties(${path} PROPERTIES SKIP_PRECOMPILE_HEADERS ON
    COMPILE_OPTIONS "${SPECTRACE_KERNEL_OPTIONS};-mavx512f;-mavx512dq;-mfma;-mprefer-vector-width=512")
else()
  set_source_files_properties(${path} PROPERTIES HEADER_FILE_ONLY ON)
endif()
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
  foreach(source matrix_product bulge_chasing symmetric_eigenvalues thermodynamics vector_kinds)
    set_source_files_properties(${CMAKE_SOURCE_DIR}/src/numerics/${source}.cpp PROPERTIES COMPILE_DEFINITIONS SPECTRACE_X86_KERNELS)
  endforeach()
endif()
