// Collectives of CUDA devices: the communicator moves bytes, and the sums are
// this side's, so that their order does not hang on the way bytes take. (NCCL's
// own all-reduce picks its order by topology and size, and where NVSwitch adds,
// its bits may differ from call to call: NVIDIA/nccl #1497.)
//
// Tensors are packed into chunks. Of each chunk a rank owns one segment: it
// gets the others' values of it, adds, and sends the sum to all. What crosses a
// link is what a ring all-reduce would send. Exchanges go by distance: first
// everyone's with the next rank, then with the one after it, so that all meet
// in the same order.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_COLLECTIVE_COLLECTIVE_CUDA_H_
#define SINKLORA_KERNELS_COLLECTIVE_COLLECTIVE_CUDA_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/collective/collective.h"
#include "kernels/cuda/communicator.h"
#include "kernels/cuda/cuda_context.h"

namespace sinklora::kernels::cuda {

class CudaCollective final : public Collective {
 public:
  // Waits for all ranks. REQUIRES: valid params. `context` must outlive it.
  static Status Join(const JoinCollectiveParams& params,
                     CommunicatorLibrary* library, CudaContext* context,
                     std::unique_ptr<Collective>* out);

  std::string description() const override;
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  Status AllReduceSum(std::span<const TensorView> tensors) override;
  Status Broadcast(std::span<const TensorView> tensors, int root) override;
  Status Exchange(std::span<const CollectiveMessage> sends,
                  std::span<const CollectiveMessage> receives) override;
  Status Wait() override;

 private:
  // Elements [begin, begin + count) of a chunk.
  struct Segment {
    int64_t begin, count;
  };
  // A tensor, or a part of one, as it lies in the chunk.
  struct Piece {
    char* data;
    int64_t begin, count;
  };
  using Pieces = std::vector<Piece>;
  using ChunkOperation = std::function<Status(int64_t count)>;

  CudaCollective(const JoinCollectiveParams& params, CudaContext* context)
      : rank_(params.rank),
        size_(params.size),
        chunk_elements_(params.chunk_elements),
        context_(context) {}

  // Runs `work`, which queues, unless the group is lost; what goes wrong stays.
  Status Queue(const std::function<Status()>& work);
  // Runs `operation` on chunk after chunk of all tensors.
  Status ForEachChunk(std::span<const TensorView> tensors,
                      const ChunkOperation& operation);
  // Of tensors one after the other, what goes into each chunk of `capacity`.
  static std::vector<Pieces> CutChunks(std::span<const TensorView> tensors,
                                       int64_t capacity);
  static int64_t CountOf(const Pieces& pieces) {
    return pieces.back().begin + pieces.back().count;
  }
  // From the tensors to `packed`, and back.
  Status Gather(const Pieces& pieces, float* packed);
  Status Scatter(const Pieces& pieces, const float* packed);
  // Messages to rank `to` and from rank `from`.
  Status ExchangeWith(int to, int from,
                      std::span<const CollectiveMessage> sends,
                      std::span<const CollectiveMessage> receives);
  Status SumChunk(int64_t count);
  Status CopyChunk(int64_t count, int root);
  // What rank `owner` adds, of a chunk of `count`.
  Segment SegmentOf(int owner, int64_t count) const;
  // The first error stays.
  Status Remember(Status status);

  float* chunk() const;     // [chunk_elements_]
  float* received() const;  // [size_ - 1][own segment]: the others' values

  const int rank_;
  const int size_;
  const int64_t chunk_elements_;
  CudaContext* const context_;
  std::unique_ptr<Communicator> communicator_;  // none for a group of one
  Status failed_;
  std::vector<Transfer> sends_, receives_;
};

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_COLLECTIVE_COLLECTIVE_CUDA_H_
