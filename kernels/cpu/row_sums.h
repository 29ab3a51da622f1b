// Sums of f32 rows, vectorised, on the calling thread. Pointers need no
// alignment. Every element is one chain of additions in row order, so its bits
// do not depend on where rows are cut into columns.
//
// Thread-safe: no state.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CPU_ROW_SUMS_H_
#define SINKLORA_KERNELS_CPU_ROW_SUMS_H_

#include <cstdint>

#include "kernels/cpu/thread_pool.h"

namespace sinklora::kernels::cpu {

// sum[i] += x[i].
void AddRow(const float* x, float* sum, int64_t n);

// sum[i] += x[0][i] + x[1][i] + ..., for `rows` rows that are `stride` apart.
void AddRows(const float* x, int64_t stride, int64_t rows, float* sum,
             int64_t n);

// The same on all threads, cut along the columns: for the partial sums of a
// reduction over blocks of rows.
void AddPartialSums(const float* x, int64_t rows, float* sum, int64_t n,
                    ThreadPool& pool);

}  // namespace sinklora::kernels::cpu

#endif  // SINKLORA_KERNELS_CPU_ROW_SUMS_H_
