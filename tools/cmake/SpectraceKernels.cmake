# Inner loops of numerics are compiled once for each kind of vector instructions and chosen when the program runs, so the
# program needs no processor like that of the machine it was built on.
# Loops of a known small length are unrolled, so that vectors stay in registers.
set(SPECTRACE_KERNEL_OPTIONS $<$<NOT:$<CONFIG:Debug>>:-O3>)
set(directory ${CMAKE_SOURCE_DIR}/src/numerics)

# spectrace_kernel(NAME OPTIONS...): NAME_baseline.cpp, NAME_avx2.cpp and NAME_avx512.cpp, all compiled with these options.
function(spectrace_kernel name)
  set_source_files_properties(${directory}/${name}_baseline.cpp PROPERTIES SKIP_PRECOMPILE_HEADERS ON
    COMPILE_OPTIONS "${SPECTRACE_KERNEL_OPTIONS};${ARGN}")
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
    set_source_files_properties(${directory}/${name}_avx2.cpp PROPERTIES SKIP_PRECOMPILE_HEADERS ON
      COMPILE_OPTIONS "${SPECTRACE_KERNEL_OPTIONS};-mavx2;-mfma;${ARGN}")
    set_source_files_properties(${directory}/${name}_avx512.cpp PROPERTIES SKIP_PRECOMPILE_HEADERS ON
      COMPILE_OPTIONS "${SPECTRACE_KERNEL_OPTIONS};-mavx512f;-mavx512dq;-mfma;-mprefer-vector-width=512;${ARGN}")
  else()
    set_source_files_properties(${directory}/${name}_avx2.cpp ${directory}/${name}_avx512.cpp PROPERTIES
      HEADER_FILE_ONLY ON)
  endif()
endfunction()

spectrace_kernel(bulge_chasing)
# a b + c fused where it was not asked for would take the error of a product for zero.
spectrace_kernel(double_double -ffp-contract=off)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
  set_source_files_properties(${directory}/bulge_chasing.cpp ${directory}/double_double_cholesky.cpp PROPERTIES
    COMPILE_DEFINITIONS SPECTRACE_X86_KERNELS)
endif()
