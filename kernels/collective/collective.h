// What ranks do together: sums and copies across backends, one backend a rank.
//
// One rank makes an id (Backend::MakeCollectiveId), all join with it
// (Backend::JoinCollective), in any order, each on a thread or in a process of
// its own. From then on all make the same calls in the same order, with tensors
// of the same sizes; what differs is undefined.
//
// Sums are taken in the order of the ranks, whatever connects them: equal
// inputs give equal bits, on all ranks and in every run.
//
// Thread-safety: a call on a Collective is a call on its Backend. Ownership:
// must not outlive its Backend, and may be destroyed once no rank is in a call.
// Errors: kInvalidArgument changes nothing; any other is final: the group is
// lost, tensors hold anything, and every later call returns the same. A rank
// that fails tells the others by the flag they all wait with.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_COLLECTIVE_COLLECTIVE_H_
#define SINKLORA_KERNELS_COLLECTIVE_COLLECTIVE_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <span>
#include <string>

#include "kernels/status.h"
#include "kernels/tensor.h"

namespace sinklora::kernels {

// Names a group that is to be. Plain bytes, to be handed to other processes.
struct CollectiveId {
  std::array<char, 128> bytes{};
  bool operator==(const CollectiveId&) const = default;
};

struct JoinCollectiveParams {
  static constexpr int kMaxSize = 1024;
  static constexpr int64_t kDefaultChunkElements = int64_t{8} << 20;

  CollectiveId id = {};  // of MakeCollectiveId; not looked at when size is 1
  int rank = 0;          // [0, size), each once
  int size = 1;          // [1, kMaxSize]; the same on all ranks
  // f32 elements that travel at once, >= 1; the same on all ranks. Costs 8
  // bytes of device memory each, which Backend's counters leave out.
  int64_t chunk_elements = kDefaultChunkElements;
  // Required; outlives the Collective. Once it is true every wait of the group,
  // joining included, ends with kUnavailable.
  const std::atomic<bool>* abort = nullptr;
};

// A part of an exchange between two ranks.
struct CollectiveMessage {
  int peer = 0;       // the other rank
  TensorView tensor;  // f32, any rank, contiguous
};

class Collective {
 public:
  virtual ~Collective() = default;

  virtual std::string description() const = 0;  // e.g. "NCCL 2.28.9"
  virtual int rank() const = 0;
  virtual int size() const = 0;

  // Each f32 tensor (any rank, contiguous) <- its sum over the ranks, in f32:
  // ((x of rank 0 + x of rank 1) + x of rank 2) + ... Queued.
  virtual Status AllReduceSum(std::span<const TensorView> tensors) = 0;
  // Each f32 tensor (any rank, contiguous) <- that of rank `root`. Queued.
  virtual Status Broadcast(std::span<const TensorView> tensors, int root) = 0;
  // Sends and receives at the same time. What a rank sends to a peer, one
  // tensor after the other, is what the peer receives from it in that call, in
  // the same sizes. A rank without messages need not call. Queued.
  virtual Status Exchange(std::span<const CollectiveMessage> sends,
                          std::span<const CollectiveMessage> receives) = 0;
  // Waits until the device has done what was queued here, and says whether it
  // went well. Call it before anything else that waits for the device: only
  // this wait sees the abort flag and the errors of other ranks.
  virtual Status Wait() = 0;
};

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_COLLECTIVE_COLLECTIVE_H_
