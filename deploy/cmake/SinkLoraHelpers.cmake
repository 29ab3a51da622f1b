# SPDX-License-Identifier: Apache-2.0
# Compiler settings shared by every target, and the helper pair all of them are declared with.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)

set(SINKLORA_SANITIZE "" CACHE STRING "Sanitizers: empty, 'address,undefined' or 'thread'")
option(SINKLORA_FUZZ "Only the fuzz targets and what they need, instrumented for libFuzzer (needs clang)" OFF)

find_program(SINKLORA_CCACHE ccache)
if(SINKLORA_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_C_COMPILER_LAUNCHER ${SINKLORA_CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${SINKLORA_CCACHE})
endif()
find_program(SINKLORA_MOLD mold)
if(SINKLORA_MOLD)
  add_link_options(-fuse-ld=mold)
endif()

set(SINKLORA_WARNINGS -Wall -Wextra -Werror -Wvla)
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  list(APPEND SINKLORA_WARNINGS -Wthread-safety)
endif()

# Applies warnings and sanitizers to one target. `rpc` is true for targets whose sources include gRPC or
# protobuf headers: those are compiled without ThreadSanitizer, because the libraries behind the headers are
# not instrumented and would be reported.
function(sinklora_compile_settings target rpc)
  target_compile_options(${target} PRIVATE ${SINKLORA_WARNINGS})
  if(SINKLORA_SANITIZE)
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
      # GCC 12 takes instrumented std::function members for uninitialised ones.
      target_compile_options(${target} PRIVATE -Wno-maybe-uninitialized)
    endif()
    if(NOT (rpc AND SINKLORA_SANITIZE STREQUAL "thread"))
      target_compile_options(${target} PRIVATE -fsanitize=${SINKLORA_SANITIZE} -fno-omit-frame-pointer
                                               -fno-sanitize-recover=all)
    endif()
    target_link_options(${target} PUBLIC -fsanitize=${SINKLORA_SANITIZE})
    if(rpc AND SINKLORA_SANITIZE STREQUAL "thread")
      target_compile_definitions(${target} PRIVATE SINKLORA_THREAD_SANITIZER)  # common/rpc/thread_order.h
    endif()
  endif()
  if(SINKLORA_FUZZ)
    target_compile_options(${target} PRIVATE -fsanitize=fuzzer-no-link)
    target_compile_definitions(${target} PRIVATE _GLIBCXX_ASSERTIONS)
  endif()
endfunction()

# sinklora_cc_library(NAME name SRCS ... HDRS ... DEPS ... [RPC])
# Declares static library sinklora_<name> with alias sinklora::<name>. Headers are included from the
# repository root. Without SRCS the library is header-only.
function(sinklora_cc_library)
  cmake_parse_arguments(ARG "RPC" "NAME" "SRCS;HDRS;DEPS" ${ARGN})
  set(target sinklora_${ARG_NAME})
  if(ARG_SRCS)
    add_library(${target} STATIC ${ARG_SRCS} ${ARG_HDRS})
    target_include_directories(${target} PUBLIC ${PROJECT_SOURCE_DIR})
    target_link_libraries(${target} PUBLIC ${ARG_DEPS})
    sinklora_compile_settings(${target} ${ARG_RPC})
  else()
    add_library(${target} INTERFACE ${ARG_HDRS})
    target_include_directories(${target} INTERFACE ${PROJECT_SOURCE_DIR})
    target_link_libraries(${target} INTERFACE ${ARG_DEPS})
  endif()
  add_library(sinklora::${ARG_NAME} ALIAS ${target})
endfunction()

# sinklora_cc_test(NAME name SRCS ... DEPS ... [LABELS ...] [RPC] [TIMEOUT seconds] [SERIAL])
# Declares a GoogleTest executable and registers it with CTest as one test. Labels: unit (default),
# service, e2e. The shared inputs folder, when the checkout has one, is passed as SINKLORA_SHARED_DIR.
function(sinklora_cc_test)
  cmake_parse_arguments(ARG "RPC;SERIAL" "NAME;TIMEOUT" "SRCS;DEPS;LABELS" ${ARGN})
  add_executable(${ARG_NAME} ${ARG_SRCS})
  target_include_directories(${ARG_NAME} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${ARG_NAME} PRIVATE ${ARG_DEPS} GTest::gmock GTest::gtest_main)
  sinklora_compile_settings(${ARG_NAME} ${ARG_RPC})
  # What tests do themselves is little: a third of their compile time is not worth more.
  target_compile_options(${ARG_NAME} PRIVATE $<$<CONFIG:Release>:-O1>)
  set_target_properties(${ARG_NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
  add_test(NAME ${ARG_NAME} COMMAND ${ARG_NAME})
  if(NOT ARG_LABELS)
    set(ARG_LABELS unit)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  set_tests_properties(${ARG_NAME} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT}
    RUN_SERIAL ${ARG_SERIAL}
    ENVIRONMENT "SINKLORA_SOURCE_DIR=${PROJECT_SOURCE_DIR};SINKLORA_SHARED_DIR=${PROJECT_SOURCE_DIR}/../shared;SINKLORA_BIN_DIR=${CMAKE_RUNTIME_OUTPUT_DIRECTORY};SINKLORA_SANITIZE=${SINKLORA_SANITIZE};TSAN_OPTIONS=ignore_noninstrumented_modules=1;UBSAN_OPTIONS=print_stacktrace=1")
endfunction()

# sinklora_cc_benchmark(NAME name SRCS ... DEPS ...)
# Declares a Google Benchmark executable, which CTest does not run.
function(sinklora_cc_benchmark)
  cmake_parse_arguments(ARG "" "NAME" "SRCS;DEPS" ${ARGN})
  add_executable(${ARG_NAME} ${ARG_SRCS})
  target_include_directories(${ARG_NAME} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${ARG_NAME} PRIVATE ${ARG_DEPS} benchmark::benchmark)
  sinklora_compile_settings(${ARG_NAME} FALSE)
  set_target_properties(${ARG_NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
endfunction()

# sinklora_fuzz_target(NAME name SRCS ... DEPS ... [MAX_LEN bytes] [SEEDS glob ...])
# Declares the fuzz target of SRCS, which define LLVMFuzzerTestOneInput. With SINKLORA_FUZZ it is the libFuzzer
# program fuzz_<name>, and tests/fuzz/run.sh finds it and its seeds (globs below the repository or, after "shared:",
# below the shared inputs folder). Otherwise it is the test fuzz_<name>_test, which runs the inputs in
# tests/fuzz/regressions/<name> through the same function.
function(sinklora_fuzz_target)
  cmake_parse_arguments(ARG "" "NAME;MAX_LEN" "SRCS;DEPS;SEEDS" ${ARGN})
  set(regressions ${PROJECT_SOURCE_DIR}/tests/fuzz/regressions/${ARG_NAME})
  file(GLOB inputs ${regressions}/*)
  if(NOT inputs)
    message(FATAL_ERROR "${regressions} needs at least one input")
  endif()
  if(NOT ARG_MAX_LEN)
    set(ARG_MAX_LEN 4096)
  endif()
  if(SINKLORA_FUZZ)
    add_executable(fuzz_${ARG_NAME} ${ARG_SRCS})
    target_include_directories(fuzz_${ARG_NAME} PRIVATE ${PROJECT_SOURCE_DIR})
    target_link_libraries(fuzz_${ARG_NAME} PRIVATE ${ARG_DEPS})
    target_link_options(fuzz_${ARG_NAME} PRIVATE -fsanitize=fuzzer)
    sinklora_compile_settings(fuzz_${ARG_NAME} FALSE)
    list(JOIN ARG_SEEDS "\n" seeds)
    file(WRITE ${PROJECT_BINARY_DIR}/fuzz/${ARG_NAME}.target "${ARG_MAX_LEN}\n${seeds}\n")
  else()
    sinklora_cc_test(NAME fuzz_${ARG_NAME}_test
      SRCS ${ARG_SRCS} ${PROJECT_SOURCE_DIR}/tests/fuzz/replay_test.cc DEPS sinklora::base ${ARG_DEPS})
    target_compile_definitions(fuzz_${ARG_NAME}_test PRIVATE
      FUZZ_TARGET="${ARG_NAME}" FUZZ_MAX_LEN=${ARG_MAX_LEN})
  endif()
endfunction()

# sinklora_add_subdirectories(dir ...)
# Adds each folder that has a CMakeLists.txt; the others are skipped.
function(sinklora_add_subdirectories)
  foreach(dir ${ARGN})
    if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${dir}/CMakeLists.txt)
      add_subdirectory(${dir})
    endif()
  endforeach()
endfunction()
