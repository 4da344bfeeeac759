# Inner loops of numerics are compiled once for each kind of vector instructions and chosen when the program runs, so the
# program needs no processor like that of the machine it was built on.
# Loops of a known small length are unrolled, so that vectors stay in registers.
set(SPECTRACE_KERNEL_OPTIONS $<$<NOT:$<CONFIG:Debug>>:-O3>)
set(directory ${CMAKE_SOURCE_DIR}/src/numerics)
set_source_files_properties(${directory}/bulge_chasing_baseline.cpp PROPERTIES SKIP_PRECOMPILE_HEADERS ON
  COMPILE_OPTIONS "${SPECTRACE_KERNEL_OPTIONS}")
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
  set_source_files_properties(${directory}/bulge_chasing_avx2.cpp PROPERTIES SKIP_PRECOMPILE_HEADERS ON
    COMPILE_OPTIONS "${SPECTRACE_KERNEL_OPTIONS};-mavx2;-mfma")
  set_source_files_properties(${directory}/bulge_chasing_avx512.cpp PROPERTIES SKIP_PRECOMPILE_HEADERS ON
    COMPILE_OPTIONS "${SPECTRACE_KERNEL_OPTIONS};-mavx512f;-mavx512dq;-mfma;-mprefer-vector-width=512")
  set_source_files_properties(${directory}/bulge_chasing.cpp PROPERTIES COMPILE_DEFINITIONS SPECTRACE_X86_KERNELS)
else()
  set_source_files_properties(${directory}/bulge_chasing_avx2.cpp ${directory}/bulge_chasing_avx512.cpp PROPERTIES
    HEADER_FILE_ONLY ON)
endif()
