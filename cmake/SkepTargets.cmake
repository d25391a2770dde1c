# What every target of skep is built with, and the shapes that targets have: a layer, a test, a fuzzer.

find_package(Threads REQUIRED)
if(SKEP_TESTS)
  find_package(GTest REQUIRED)
endif()

find_program(SKEP_CCACHE ccache)
if(SKEP_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(launcher ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros ${SKEP_CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${launcher})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${launcher})
endif()

add_library(skep_options INTERFACE)
target_compile_options(skep_options INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow $<$<COMPILE_LANGUAGE:CXX>:-Wconversion -Wnon-virtual-dtor>
  $<$<COMPILE_LANG_AND_ID:CXX,Clang>:-Wno-sign-conversion>  # -Wconversion of g++ has none of it either
  $<$<BOOL:${SKEP_WERROR}>:-Werror>)
target_include_directories(skep_options INTERFACE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
target_link_libraries(skep_options INTERFACE Threads::Threads)
if(SKEP_SANITIZE)
  target_compile_options(skep_options INTERFACE
    -fsanitize=${SKEP_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(skep_options INTERFACE -fsanitize=${SKEP_SANITIZE})
endif()
if(SKEP_FUZZ)
  target_compile_options(skep_options INTERFACE -fsanitize=fuzzer-no-link)
endif()

# ThreadSanitizer follows the threads of one process: its build has no tests that fork, start programs or no threads.
if(SKEP_SANITIZE MATCHES thread)
  set(SKEP_PROCESS_TESTS OFF)
else()
  set(SKEP_PROCESS_TESTS ON)
endif()

# Tests are compiled more often than they run: without much optimisation, lines as the only debug information, and the
# headers that they share precompiled. The layers share theirs so only in builds with sanitizers, which nobody installs:
# in the others each source is seen to include what it uses.
if(SKEP_TESTS)
  add_library(skep_test_options INTERFACE)
  target_link_libraries(skep_test_options INTERFACE skep_options GTest::gtest GTest::gtest_main)
  target_compile_options(skep_test_options INTERFACE $<IF:$<CONFIG:RelWithDebInfo>,-O1;-g1,-O0>)
  add_executable(skep_test_headers ${PROJECT_SOURCE_DIR}/tests/precompiled.cc)
  target_link_libraries(skep_test_headers PRIVATE skep_test_options)
  target_precompile_headers(skep_test_headers PRIVATE ${PROJECT_SOURCE_DIR}/tests/precompiled.h)
endif()
if(SKEP_SANITIZE)
  add_library(skep_layer_headers STATIC ${PROJECT_SOURCE_DIR}/src/precompiled.cc)
  target_link_libraries(skep_layer_headers PRIVATE skep_options)
  target_precompile_headers(skep_layer_headers PRIVATE ${PROJECT_SOURCE_DIR}/src/precompiled.h)
endif()

# skep_test(NAME SOURCE LIBRARIES...): one GoogleTest program, one ctest entry. It counts as skipped when every test in
# it was. A source that is called *_process_test.cc forks or starts programs.
function(skep_test name source)
  if(NOT SKEP_PROCESS_TESTS)
    get_filename_component(path ${source} ABSOLUTE)
    file(STRINGS ${path} threads REGEX "std::j?thread")
    if(source MATCHES "_process_test\\.cc$" OR NOT threads)
      return()
    endif()
  endif()
  add_executable(${name} ${source})
  target_link_libraries(${name} PRIVATE skep_test_options ${ARGN})
  target_precompile_headers(${name} REUSE_FROM skep_test_headers)
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES
    TIMEOUT 600
    SKIP_REGULAR_EXPRESSION "\\[  PASSED  \\] 0 tests\\.\n\\[  SKIPPED \\]")
endfunction()

# skep_fuzzer(NAME SOURCE LIBRARIES...): one libFuzzer program; ctest runs it for SKEP_FUZZ_SECONDS, from the seeds in
# the folder NAME_seeds beside the source if there is one.
function(skep_fuzzer name source)
  if(NOT SKEP_FUZZ)
    return()
  endif()
  add_executable(${name} ${source})
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  target_link_libraries(${name} PRIVATE skep_options ${ARGN})
  get_filename_component(folder ${source} DIRECTORY)
  set(seeds ${folder}/${name}_seeds)
  if(NOT EXISTS ${seeds})
    set(seeds "")
  endif()
  set(found ${CMAKE_BINARY_DIR}/fuzz/${name})
  file(MAKE_DIRECTORY ${found})
  add_test(NAME ${name} COMMAND ${name} -max_total_time=${SKEP_FUZZ_SECONDS} -print_final_stats=1 -timeout=20
    -artifact_prefix=${found}/ ${found} ${seeds})
  set_tests_properties(${name} PROPERTIES LABELS fuzz TIMEOUT 600)
endfunction()

# skep_crash_library(NAME SOURCES... TESTS...): those sources once more, with the crash points of machine/crash_countdown.h,
# in place of the layer's for these tests: compiled once and not in each.
function(skep_crash_library name)
  cmake_parse_arguments(PARSE_ARGV 1 crash "" "" "SOURCES;TESTS")
  if(NOT SKEP_TESTS OR NOT SKEP_PROCESS_TESTS)
    return()
  endif()
  add_library(${name} OBJECT ${crash_SOURCES})
  target_compile_options(${name} PRIVATE -include ${CMAKE_CURRENT_SOURCE_DIR}/machine/crash_countdown.h)
  target_link_libraries(${name} PRIVATE skep_test_options)
  foreach(test IN LISTS crash_TESTS)
    target_link_libraries(${test} PRIVATE ${name})
  endforeach()
endfunction()

# skep_layer(NAME DEPENDS...): the static library of src/NAME/*.cc, with the tests and fuzzers that stand beside them.
function(skep_layer name)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${name}/*.cc)
  set(tests ${sources})
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  set(fuzzers ${sources})
  list(FILTER fuzzers INCLUDE REGEX "_fuzz\\.cc$")
  list(FILTER sources EXCLUDE REGEX "_(test|fuzz)\\.cc$")
  if(NOT sources)
    return()
  endif()
  add_library(skep_${name} STATIC ${sources})
  list(TRANSFORM ARGN PREPEND skep_ OUTPUT_VARIABLE depends)
  target_link_libraries(skep_${name} PUBLIC skep_options ${depends})
  if(TARGET skep_layer_headers)
    target_precompile_headers(skep_${name} REUSE_FROM skep_layer_headers)
  endif()
  if(SKEP_TESTS)
    foreach(test IN LISTS tests)
      get_filename_component(base ${test} NAME_WE)
      skep_test(${base} ${test} skep_${name})
    endforeach()
  endif()
  foreach(fuzzer IN LISTS fuzzers)
    get_filename_component(base ${fuzzer} NAME_WE)
    skep_fuzzer(${base} ${fuzzer} skep_${name})
  endforeach()
endfunction()
