// Runs the blocks of a kernel on the CPU, one after the other, each thread of a
// block on a fiber of its own.
//
// Fibers switch at barriers and warp operations only. Odd blocks run their
// warps and lanes in descending order, so that a missing barrier shows as a
// value that is not there yet. Shared memory is NaN (all bits set) when a block
// starts, lies against an inaccessible page, and its gaps must come back
// untouched. A block fails, and with it the launch, when its threads do not all
// come to the same barrier or warp operation, leave while others wait, or
// break a rule of an operation (alignment, bounds).
//
// Thread-safety: one grid at a time in the process; callers wait for each
// other.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_TESTING_CUDA_EMULATION_ENGINE_H_
#define SINKLORA_TESTS_TESTING_CUDA_EMULATION_ENGINE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "tests/testing/cuda_emulation/types.h"

namespace sinklora::emulation {

inline constexpr int kLanes = 32;
inline constexpr unsigned kMaxBlockThreads = 1024;
// What a block of compute capability 8.0 may have.
inline constexpr int64_t kMaxSharedBytes = 163 * 1024;

// Runs `kernel` once for every thread of the grid. Empty when all went well,
// else what went wrong and where.
std::string RunGrid(dim3 grid, dim3 block, int64_t dynamic_shared_bytes,
                    const std::function<void()>& kernel);

// --- called by the thread that runs now, inside RunGrid

// Waits for all threads of the block.
void BlockBarrier();

// `operation` gets what each lane brought, after the last one came. All lanes
// must bring the same operation.
using WarpOperation = void (*)(void* const operands[kLanes]);
void WarpCollective(const char* name, WarpOperation operation, void* operand);

// Ends the launch with an error. Nothing of the thread's is destroyed.
[[noreturn]] void Fail(const char* operation, const char* what);

// The block's memory of this size for the declaration that `key` stands for.
void* StaticShared(const void* key, size_t bytes, size_t alignment);
void* DynamicSharedMemory();
// Fails unless these are 16 aligned bytes of the block's shared memory.
void CheckShared16(const void* address, const char* operation);

// Copies to shared memory that have been started but not waited for.
void StartCopy(void* shared, const void* global, int valid_bytes);
void CommitCopies();
void WaitForCopies(int groups_left);

}  // namespace sinklora::emulation

#endif  // SINKLORA_TESTS_TESTING_CUDA_EMULATION_ENGINE_H_
