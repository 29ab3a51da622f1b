// What the CPU kernels of one backend share: threads, the matrix-product engine
// and scratch memory. One op at a time.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CPU_CPU_CONTEXT_H_
#define SINKLORA_KERNELS_CPU_CPU_CONTEXT_H_

#include <vector>

#include "kernels/cpu/scratch.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/matmul/gemm_engine.h"

namespace sinklora::kernels::cpu {

struct CpuContext {
  explicit CpuContext(int num_threads)
      : pool(num_threads), gemm(num_threads), thread_scratch(num_threads) {}

  ThreadPool pool;
  GemmEngine gemm;
  // [thread]: owned by the task running on that thread.
  std::vector<Scratch> thread_scratch;
  // Owned by the running op: what its tasks share, e.g. packed operands.
  Scratch shared_scratch;
  // Second one, for ops that call the matrix product while holding the first.
  Scratch matmul_scratch;
};

}  // namespace sinklora::kernels::cpu

#endif  // SINKLORA_KERNELS_CPU_CPU_CONTEXT_H_
