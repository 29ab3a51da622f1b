// For functions written with AVX-512 intrinsics: those that Debian's Highway
// has no op for, or that GCC 12 compiles better so. x86-64 only.
//
// The target is named for each function, not for the file: what a file includes
// must stay runnable everywhere.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CPU_AVX512_H_
#define SINKLORA_KERNELS_CPU_AVX512_H_

// GCC 12 takes the undefined operands inside of its own intrinsics for a
// mistake, where they are inlined.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#define SINKLORA_AVX512_TARGET \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma")))
#define SINKLORA_AVX512_BF16_TARGET \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16")))

#endif  // SINKLORA_KERNELS_CPU_AVX512_H_
