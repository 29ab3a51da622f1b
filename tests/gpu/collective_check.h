// Sums over several GPUs, against the sum on the host in the order of the
// ranks.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_GPU_COLLECTIVE_CHECK_H_
#define SINKLORA_TESTS_GPU_COLLECTIVE_CHECK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace sinklora::gpu_check {

// Joins all `gpus`, a thread each, and sums `elements` of each. Empty when the
// sums have the host's bits on all of them, else what is wrong.
std::string CheckCollectives(const std::vector<kernels::Backend*>& gpus,
                             int64_t elements);

}  // namespace sinklora::gpu_check

#endif  // SINKLORA_TESTS_GPU_COLLECTIVE_CHECK_H_
