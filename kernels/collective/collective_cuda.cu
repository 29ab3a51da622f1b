// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <new>
#include <utility>

#include "kernels/collective/collective_cuda.h"
#include "kernels/collective/collective_validate.h"
#include "kernels/cuda/device_util.h"
#include "kernels/cuda/launch.h"

namespace sinklora::kernels::cuda {
namespace {

constexpr int64_t kElementBytes = sizeof(float);
// Segments begin where transfers are fast.
constexpr int64_t kSegmentElements = 64;

int64_t Padded(int64_t elements) {
  return CeilDiv(elements, kSegmentElements) * kSegmentElements;
}

// The largest segment of a chunk.
int64_t SegmentCapacity(int64_t elements, int size) {
  return Padded(CeilDiv(elements, size));
}

// own[n] <- the sum over ranks in their order; received[size - 1][n] holds the
// others' values.
SINKLORA_GLOBAL void SumRanksKernel(float* own, const float* received, int rank,
                                    int size, int64_t n) {
  for (int64_t i = FlatThread(); i < n; i += FlatThreads()) {
    float sum = rank == 0 ? own[i] : received[i];
    for (int r = 1; r < size; ++r) {
      sum += r == rank ? own[i] : received[(r < rank ? r : r - 1) * n + i];
    }
    own[i] = sum;
  }
}

}  // namespace

Status CudaCollective::Join(const JoinCollectiveParams& params,
                            CommunicatorLibrary* library, CudaContext* context,
                            std::unique_ptr<Collective>* out) {
  std::unique_ptr<CudaCollective> collective(
      new CudaCollective(params, context));
  if (params.size > 1) {
    const int64_t elements =
        Padded(params.chunk_elements) +
        (params.size - 1) * SegmentCapacity(params.chunk_elements, params.size);
    Status status = context->Leave(
        library->Join(params, elements * kElementBytes, &context->runtime(),
                      &collective->communicator_));
    if (!status.ok()) return status;
  }
  *out = std::move(collective);
  return OkStatus();
}

std::string CudaCollective::description() const {
  return communicator_ == nullptr ? "a group of one" : communicator_->name();
}

float* CudaCollective::chunk() const {
  return static_cast<float*>(communicator_->memory());
}

float* CudaCollective::received() const {
  return chunk() + Padded(chunk_elements_);
}

Status CudaCollective::Remember(Status status) {
  if (failed_.ok()) failed_ = context_->Leave(std::move(status));
  return failed_;
}

Status CudaCollective::AllReduceSum(std::span<const TensorView> tensors) {
  Status status = ValidateCollective("all_reduce_sum", tensors);
  if (!status.ok()) return status;
  return ForEachChunk(tensors,
                      [this](int64_t count) { return SumChunk(count); });
}

Status CudaCollective::Broadcast(std::span<const TensorView> tensors,
                                 int root) {
  Status status = ValidateCollective("broadcast", tensors);
  if (status.ok()) status = ValidateRoot(root, size_);
  if (!status.ok()) return status;
  return ForEachChunk(
      tensors, [this, root](int64_t count) { return CopyChunk(count, root); });
}

Status CudaCollective::Wait() {
  if (!failed_.ok() || communicator_ == nullptr) return failed_;
  Status status = context_->Enter();
  if (status.ok()) status = communicator_->Wait();
  return Remember(std::move(status));
}

Status CudaCollective::Queue(const std::function<Status()>& work) {
  if (!failed_.ok() || communicator_ == nullptr) return failed_;
  if (Status status = Remember(context_->Enter()); !status.ok()) return status;
  try {
    return Remember(work());
  } catch (const std::bad_alloc&) {
    return Remember(Status(StatusCode::kResourceExhausted,
                           "collective: no host memory for the pieces"));
  }
}

std::vector<CudaCollective::Pieces> CudaCollective::CutChunks(
    std::span<const TensorView> tensors, int64_t capacity) {
  std::vector<Pieces> chunks;
  int64_t filled = capacity;  // of the last chunk
  for (const TensorView& tensor : tensors) {
    const int64_t elements = tensor.num_elements();
    for (int64_t at = 0; at < elements;) {
      if (filled == capacity) {
        chunks.emplace_back();
        filled = 0;
      }
      const int64_t count = std::min(elements - at, capacity - filled);
      chunks.back().push_back(
          {static_cast<char*>(tensor.data) + at * kElementBytes, filled,
           count});
      at += count;
      filled += count;
    }
  }
  return chunks;
}

Status CudaCollective::Gather(const Pieces& pieces, float* packed) {
  Status status;
  for (const Piece& piece : pieces) {
    if (!status.ok()) break;
    status = context_->runtime().CopyOnDevice(piece.data, packed + piece.begin,
                                              piece.count * kElementBytes);
  }
  return status;
}

Status CudaCollective::Scatter(const Pieces& pieces, const float* packed) {
  Status status;
  for (const Piece& piece : pieces) {
    if (!status.ok()) break;
    status = context_->runtime().CopyOnDevice(packed + piece.begin, piece.data,
                                              piece.count * kElementBytes);
  }
  return status;
}

Status CudaCollective::ForEachChunk(std::span<const TensorView> tensors,
                                    const ChunkOperation& operation) {
  return Queue([&] {
    Status status;
    for (const Pieces& pieces : CutChunks(tensors, chunk_elements_)) {
      if (status.ok()) status = Gather(pieces, chunk());
      if (status.ok()) status = operation(CountOf(pieces));
      if (status.ok()) status = Scatter(pieces, chunk());
    }
    return status;
  });
}

Status CudaCollective::Exchange(std::span<const CollectiveMessage> sends,
                                std::span<const CollectiveMessage> receives) {
  Status status = ValidateMessages("sends", sends, rank_, size_);
  if (status.ok())
    status = ValidateMessages("receives", receives, rank_, size_);
  if (!status.ok()) return status;
  return Queue([&] {
    Status queued;
    for (int distance = 1; distance < size_ && queued.ok(); ++distance) {
      queued =
          ExchangeWith((rank_ + distance) % size_,
                       (rank_ - distance + size_) % size_, sends, receives);
    }
    return queued;
  });
}

Status CudaCollective::ExchangeWith(
    int to, int from, std::span<const CollectiveMessage> sends,
    std::span<const CollectiveMessage> receives) {
  const int64_t capacity = std::min(
      chunk_elements_, (size_ - 1) * SegmentCapacity(chunk_elements_, size_));
  const auto chunks_of = [&](std::span<const CollectiveMessage> messages,
                             int peer) {
    std::vector<TensorView> tensors;
    for (const CollectiveMessage& message : messages) {
      if (message.peer == peer) tensors.push_back(message.tensor);
    }
    return CutChunks(tensors, capacity);
  };
  const std::vector<Pieces> outgoing = chunks_of(sends, to);
  const std::vector<Pieces> incoming = chunks_of(receives, from);
  Status status;
  for (size_t i = 0; i < std::max(outgoing.size(), incoming.size()); ++i) {
    sends_.clear();
    receives_.clear();
    if (i < outgoing.size()) {
      sends_.push_back({to, chunk(), CountOf(outgoing[i]) * kElementBytes});
      status = Gather(outgoing[i], chunk());
    }
    if (i < incoming.size()) {
      receives_.push_back(
          {from, received(), CountOf(incoming[i]) * kElementBytes});
    }
    if (status.ok()) status = communicator_->Exchange(sends_, receives_);
    if (status.ok() && i < incoming.size()) {
      status = Scatter(incoming[i], received());
    }
    if (!status.ok()) break;
  }
  return status;
}

CudaCollective::Segment CudaCollective::SegmentOf(int owner,
                                                  int64_t count) const {
  const int64_t each = SegmentCapacity(count, size_);
  const int64_t begin = std::min(count, owner * each);
  return {begin, std::min(each, count - begin)};
}

Status CudaCollective::SumChunk(int64_t count) {
  const Segment own = SegmentOf(rank_, count);
  const auto add = [](std::vector<Transfer>* to, int peer, float* data,
                      int64_t elements) {
    if (elements == 0) return;
    to->push_back({peer, data, elements * kElementBytes});
  };
  // Each value to the rank that adds it.
  sends_.clear();
  receives_.clear();
  int slot = 0;
  for (int peer = 0; peer < size_; ++peer) {
    if (peer == rank_) continue;
    const Segment theirs = SegmentOf(peer, count);
    add(&sends_, peer, chunk() + theirs.begin, theirs.count);
    add(&receives_, peer, received() + slot++ * own.count, own.count);
  }
  Status status = communicator_->Exchange(sends_, receives_);
  if (!status.ok()) return status;
  status =
      Launch("all_reduce_sum", SumRanksKernel,
             {.grid = dim3(FlatBlocks(own.count, context_->device().sm_count)),
              .block = dim3(kBlockThreads)},
             context_->stream(), chunk() + own.begin, received(), rank_, size_,
             own.count);
  if (!status.ok()) return status;
  // Each sum to all.
  sends_.clear();
  receives_.clear();
  for (int peer = 0; peer < size_; ++peer) {
    if (peer == rank_) continue;
    const Segment theirs = SegmentOf(peer, count);
    add(&sends_, peer, chunk() + own.begin, own.count);
    add(&receives_, peer, chunk() + theirs.begin, theirs.count);
  }
  return communicator_->Exchange(sends_, receives_);
}

Status CudaCollective::CopyChunk(int64_t count, int root) {
  sends_.clear();
  receives_.clear();
  if (rank_ != root) {
    receives_.push_back({root, chunk(), count * kElementBytes});
  } else {
    for (int peer = 0; peer < size_; ++peer) {
      if (peer != root) {
        sends_.push_back({peer, chunk(), count * kElementBytes});
      }
    }
  }
  return communicator_->Exchange(sends_, receives_);
}

}  // namespace sinklora::kernels::cuda
