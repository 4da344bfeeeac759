# spectrace_module(NAME DEPENDS target...): the library of src/NAME and, where tests/NAME exists, its tests.
#
# Every tests/NAME/*_test.cpp goes into one program NAME_tests. Tests that need ranks lie in tests/NAME/*_mpi_test.cpp;
# they go into NAME_mpi_tests, run under the MPI launcher with 1, 2, 3 and 4 ranks.
function(spectrace_module name)
  cmake_parse_arguments(ARG "" "" "DEPENDS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${name}/*.cpp)
  list(FILTER sources EXCLUDE REGEX "src/app/main\\.cpp$")
  if(NOT sources)
    add_library(spectrace_${name} INTERFACE)
    target_link_libraries(spectrace_${name} INTERFACE ${ARG_DEPENDS} spectrace_options)
    target_include_directories(spectrace_${name} INTERFACE ${CMAKE_SOURCE_DIR}/include)
  else()
    add_library(spectrace_${name} STATIC ${sources})
    target_include_directories(spectrace_${name} PUBLIC ${CMAKE_SOURCE_DIR}/include)
    target_link_libraries(spectrace_${name} PUBLIC ${ARG_DEPENDS} PRIVATE spectrace_options)
    target_compile_features(spectrace_${name} PUBLIC cxx_std_20)
    spectrace_compile_together(spectrace_${name} "${SPECTRACE_TOGETHER}")
    if(NOT name MATCHES "^(core|text)$")  # they know no libtorch
      target_precompile_headers(spectrace_${name} REUSE_FROM spectrace_pch)
    endif()
  endif()
  add_library(spectrace::${name} ALIAS spectrace_${name})
  if(SPECTRACE_TESTS)
    spectrace_module_tests(${name})
  endif()
endfunction()

# spectrace_list(WHAT FOLDER FILE MODULE): a header of the module's with a line SPECTRACE_<WHAT>(name) for each source of the
# folder: what lies there is found by the build, and nowhere else to be named.
function(spectrace_list what folder file module)
  file(GLOB names RELATIVE ${CMAKE_SOURCE_DIR}/${folder} CONFIGURE_DEPENDS ${folder}/*.cpp)
  list(TRANSFORM names REPLACE "(.*)\\.cpp" "SPECTRACE_${what}(\\1)\n")
  string(CONCAT lines ${names})
  file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/generated/${file} CONTENT "${lines}" @ONLY)
  target_include_directories(spectrace_${module} PRIVATE ${CMAKE_BINARY_DIR}/generated)
endfunction()

# Several sources compiled as one: what they include is compiled once for all of them.
function(spectrace_compile_together target count)
  if(count)
    set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE ${count})
    # Of a source that another one includes, as here, g++ takes namespaces without a name for a header's.
    target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Wno-subobject-linkage>)
  endif()
endfunction()

# What every program of tests of a module is compiled with.
function(spectrace_test_program program)
  target_include_directories(${program} PRIVATE ${CMAKE_SOURCE_DIR}/tests)
  target_compile_definitions(${program} PRIVATE SPECTRACE_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  set_target_properties(${program} PROPERTIES SPECTRACE_IS_TEST ON)
  if(NOT program MATCHES "^(core|text)_")
    spectrace_compile_together(${program} "${SPECTRACE_TESTS_TOGETHER}")
    target_precompile_headers(${program} REUSE_FROM spectrace_tests_pch)
  endif()
endfunction()

function(spectrace_module_tests name)
  file(GLOB tests CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/${name}/*_test.cpp)
  file(GLOB mpi_tests CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/${name}/*_mpi_test.cpp)
  list(REMOVE_ITEM tests ${mpi_tests} "")
  if(tests)
    add_executable(${name}_tests ${tests})
    # GoogleTest first: the wheel's libtorch is known to clash with it otherwise.
    target_link_libraries(${name}_tests PRIVATE GTest::gtest_main spectrace::${name} spectrace_options)
    spectrace_test_program(${name}_tests)
    add_dependencies(unit_tests ${name}_tests)
    add_test(NAME ${name} COMMAND ${name}_tests)
    set_tests_properties(${name} PROPERTIES LABELS unit)
  endif()
  if(mpi_tests)
    add_executable(${name}_mpi_tests ${mpi_tests} ${CMAKE_SOURCE_DIR}/tests/support/mpi_main.cpp)
    target_link_libraries(${name}_mpi_tests PRIVATE GTest::gtest spectrace::${name} spectrace_options)
    spectrace_test_program(${name}_mpi_tests)
    foreach(ranks 1 2 3 4)
      add_test(NAME ${name}_ranks${ranks} COMMAND ${SPECTRACE_LAUNCHER} ${ranks} $<TARGET_FILE:${name}_mpi_tests>)
      set_tests_properties(${name}_ranks${ranks} PROPERTIES PROCESSORS ${ranks} LABELS mpi TIMEOUT 300
        ENVIRONMENT "OMPI_ALLOW_RUN_AS_ROOT=1;OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1;OMPI_MCA_rmaps_base_oversubscribe=1;OMPI_MCA_mpi_yield_when_idle=1;OMP_NUM_THREADS=1")
    endforeach()
  endif()
endfunction()
