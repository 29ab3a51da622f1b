// SPDX-License-Identifier: Apache-2.0
#include "tests/gpu/collective_check.h"

#include <atomic>
#include <cstring>
#include <memory>
#include <thread>

namespace sinklora::gpu_check {
namespace {

using kernels::Backend;
using kernels::Status;

constexpr int64_t kElementBytes = sizeof(float);

// Of rank `rank`: numbers whose sums round.
std::vector<float> ValuesOf(int rank, int64_t elements) {
  std::vector<float> out(static_cast<size_t>(elements));
  auto bits = static_cast<uint32_t>(rank + 1);
  for (float& x : out) {
    bits = bits * 1664525u + 1013904223u;
    x = static_cast<float>(static_cast<int32_t>(bits)) * 1e-6f;
  }
  return out;
}

std::vector<float> SumInOrder(int ranks, int64_t elements) {
  std::vector<float> out = ValuesOf(0, elements);
  for (int rank = 1; rank < ranks; ++rank) {
    const std::vector<float> more = ValuesOf(rank, elements);
    for (size_t i = 0; i < out.size(); ++i) out[i] += more[i];
  }
  return out;
}

Status SumOnGpu(Backend* gpu, const kernels::JoinCollectiveParams& params,
                std::vector<float>* values) {
  const auto elements = static_cast<int64_t>(values->size());
  const int64_t bytes = elements * kElementBytes;
  kernels::Buffer buffer;
  Status status = gpu->Allocate(bytes, &buffer);
  if (status.ok()) {
    status = gpu->CopyToDevice(values->data(), buffer.data(), bytes);
  }
  std::unique_ptr<kernels::Collective> collective;
  if (status.ok()) status = gpu->JoinCollective(params, &collective);
  if (!status.ok()) return status;
  const kernels::TensorView x(buffer.data(), kernels::DType::kF32, {elements});
  status = collective->AllReduceSum({&x, 1});
  if (status.ok()) status = collective->Wait();
  if (status.ok()) {
    status = gpu->CopyToHost(buffer.data(), values->data(), bytes);
  }
  return status;
}

}  // namespace

std::string CheckCollectives(const std::vector<Backend*>& gpus,
                             int64_t elements) {
  kernels::CollectiveId id;
  if (const Status made = gpus[0]->MakeCollectiveId(&id); !made.ok()) {
    return made.message();
  }
  const int size = static_cast<int>(gpus.size());
  std::atomic<bool> abort{false};
  std::vector<Status> statuses(gpus.size());
  std::vector<std::vector<float>> sums(gpus.size());
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      sums[rank] = ValuesOf(rank, elements);
      statuses[rank] = SumOnGpu(gpus[rank],
                                {.id = id,
                                 .rank = rank,
                                 .size = size,
                                 .chunk_elements = 1 + elements / 3,
                                 .abort = &abort},
                                &sums[rank]);
      if (!statuses[rank].ok()) abort = true;
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::vector<float> want = SumInOrder(size, elements);
  std::string wrong;
  for (int rank = 0; rank < size; ++rank) {
    if (!statuses[rank].ok()) {
      wrong += statuses[rank].message() + "; ";
    } else if (std::memcmp(sums[rank].data(), want.data(),
                           want.size() * kElementBytes) != 0) {
      wrong += "the sum of rank " + std::to_string(rank) + " is wrong; ";
    }
  }
  return wrong;
}

}  // namespace sinklora::gpu_check
