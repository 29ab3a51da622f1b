# SPDX-License-Identifier: Apache-2.0
# CUDA, where nvcc is found: sets SINKLORA_CUDA_FOUND. Programs never link it; they open the plugin of kernels/cuda at
# run time.
set(SINKLORA_CUDA AUTO CACHE STRING "CUDA backend: AUTO (where nvcc is found), ON or OFF")
set(SINKLORA_CUDA_FOUND FALSE)
if(SINKLORA_FUZZ OR SINKLORA_SANITIZE OR CMAKE_CROSSCOMPILING OR NOT SINKLORA_CUDA)
  message(STATUS "CUDA backend: not built (switched off, a sanitizer build or one for another machine)")
  return()
endif()

find_program(SINKLORA_NVCC nvcc HINTS ENV CUDACXX ENV CUDA_PATH /usr/local/cuda PATH_SUFFIXES bin)
if(NOT SINKLORA_NVCC)
  if(NOT SINKLORA_CUDA STREQUAL "AUTO")
    message(FATAL_ERROR "SINKLORA_CUDA is ${SINKLORA_CUDA} and nvcc is not found; name it in CUDACXX")
  endif()
  message(STATUS "CUDA backend: not built (nvcc not found; name it in CUDACXX)")
  return()
endif()

# Code for Ampere and Hopper, and for what comes after as PTX. Must be set before the language is enabled.
if(NOT CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 90-virtual CACHE STRING "CUDA architectures")
endif()
set(CMAKE_CUDA_COMPILER ${SINKLORA_NVCC})
# Keeps what ptxas says about registers and spills beside each object; tests/kernels/cuda reads it.
set(CMAKE_CUDA_COMPILER_LAUNCHER ${PROJECT_SOURCE_DIR}/deploy/cmake/keep_ptxas_report.sh ${SINKLORA_CCACHE})
list(FILTER CMAKE_CUDA_COMPILER_LAUNCHER EXCLUDE REGEX "NOTFOUND$")
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)
# CMake 3.25 does not know that nvcc speaks C++20.
if(NOT DEFINED CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
endif()
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(SINKLORA_CUDA_FOUND TRUE)
message(STATUS "CUDA backend: built by ${SINKLORA_NVCC} ${CUDAToolkit_VERSION} for ${CMAKE_CUDA_ARCHITECTURES}")

# Training on several GPUs goes over NCCL, opened at run time: its header alone is needed here.
find_path(SINKLORA_NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS} ENV NCCL_ROOT PATH_SUFFIXES include)
find_library(SINKLORA_NCCL_LIBRARY NAMES libnccl.so.2
  HINTS ${CUDAToolkit_LIBRARY_DIR} ${CUDAToolkit_LIBRARY_DIR}/../lib ENV NCCL_ROOT PATH_SUFFIXES lib lib64)
if(SINKLORA_NCCL_INCLUDE_DIR)
  message(STATUS "CUDA backend: several GPUs by NCCL, ${SINKLORA_NCCL_INCLUDE_DIR}/nccl.h")
else()
  message(STATUS "CUDA backend: one GPU a job (nccl.h not found; name its folder in NCCL_ROOT)")
endif()
