# Inner loops of numerics are compiled once for each kind of vector instructions and chosen when the program runs, so the
# program needs no processor like that of the machine it was built on.
# Loops of a known small length are unrolled, so that vectors stay in registers.
set(SPECTRACE_KERNEL_OPTIONS $<$<NOT:$<CONFIG:Debug>>:-O3>)
set(directory ${CMAKE_SOURCE_DIR}/src/numerics)

# spectrace_kernel(NAME OPTION...): NAME_baseline.cpp, NAME_avx2.cpp and NAME_avx512.cpp, as far as they are there, all
# compiled with these options.
function(spectrace_kernel name)
  set(baseline "")
  set(avx2 -mavx2 -mfma)
  set(avx512 -mavx512f -mavx512dq -mfma -mprefer-vector-width=512)
  foreach(kind baseline avx2 avx512)
    set(source ${directory}/${name}_${kind}.cpp)
    if(kind STREQUAL baseline OR CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
      set_source_files_properties(${source} PROPERTIES SKIP_PRECOMPILE_HEADERS ON
        COMPILE_OPTIONS "${SPECTRACE_KERNEL_OPTIONS};${${kind}};${ARGN}")
    else()
      set_source_files_properties(${source} PROPERTIES HEADER_FILE_ONLY ON)
    endif()
  endforeach()
endfunction()

spectrace_kernel(bulge_chasing)
spectrace_kernel(level_sums_kernel)
spectrace_kernel(matrix_product)  # for AVX-512 alone
# Where a b + c is fused is said in the sources: a matrix has the same bits in every copy of a loop that the compiler makes.
spectrace_kernel(symmetric_kernels -ffp-contract=off -fno-math-errno)
# a b + c fused where it was not asked for would take the error of a product for zero.
spectrace_kernel(double_double -ffp-contract=off)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
  foreach(source bulge_chasing double_double_cholesky matrix_product symmetric_eigenvalues thermodynamics vector_kinds)
    set_source_files_properties(${directory}/${source}.cpp PROPERTIES COMPILE_DEFINITIONS SPECTRACE_X86_KERNELS)
  endforeach()
endif()
