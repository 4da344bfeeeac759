# Compiler settings for every target, without touching third-party ones.
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

find_program(SPECTRACE_CCACHE ccache)
if(SPECTRACE_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # base_dir: builds of two clones share what is cached; the rpath carries no source path into objects.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1 CCACHE_SLOPPINESS=pch_defines,time_macros
      CCACHE_DIR=${CMAKE_SOURCE_DIR}/.cache/ccache ${SPECTRACE_CCACHE})
endif()

add_library(spectrace_options INTERFACE)
target_compile_features(spectrace_options INTERFACE cxx_std_20)
target_compile_options(spectrace_options INTERFACE -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Wno-psabi -Winvalid-pch -fpch-preprocess)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # g++ 12 at -O3 warns of std::string's own operator+ (GCC bug 105651).
  target_compile_options(spectrace_options INTERFACE -Wno-restrict)
endif()
if(SPECTRACE_WERROR)
  target_compile_options(spectrace_options INTERFACE -Werror)
endif()
if(SPECTRACE_NO_ASSERT)
  target_compile_definitions(spectrace_options INTERFACE SPECTRACE_NO_ASSERT)
endif()
if(SPECTRACE_SANITIZE)
  # What tests call is looked at for undefined behaviour; in the tests' own code that takes as long to compile, and finds nothing
  # that anybody uses.
  string(REPLACE ",undefined" "" of_tests "${SPECTRACE_SANITIZE}")
  string(REPLACE "," "$<COMMA>" of_tests "${of_tests}")
  string(REPLACE "," "$<COMMA>" of_sources "${SPECTRACE_SANITIZE}")
  target_compile_options(spectrace_options INTERFACE
    -fsanitize=$<IF:$<BOOL:$<TARGET_PROPERTY:SPECTRACE_IS_TEST>>,${of_tests},${of_sources}> -fno-sanitize-recover=all -fno-omit-frame-pointer)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # Instrumented code confuses the compiler's flow analysis: its warnings are the other builds' business.
    target_compile_options(spectrace_options INTERFACE -Wno-maybe-uninitialized -Wno-array-bounds -Wno-stringop-overflow -Wno-stringop-overread)
  endif()
  target_link_options(spectrace_options INTERFACE -fsanitize=${SPECTRACE_SANITIZE})
endif()
