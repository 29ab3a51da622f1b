// Resident memory of this process, from /proc; 0 where the kernel does not say.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_BENCH_MEMORY_H_
#define SINKLORA_TESTS_BENCH_MEMORY_H_

#include <cstdint>

namespace sinklora::bench {

int64_t ResidentBytes();
// The largest of it since the last reset, or since the process began.
int64_t PeakResidentBytes();
void ResetPeakResident();

}  // namespace sinklora::bench

#endif  // SINKLORA_TESTS_BENCH_MEMORY_H_
