// Brings device memory to a sink that takes its time, as a file does: while the
// sink has one piece, on a thread of its own, the next is copied from the
// device. Two pieces are on the host at once, whatever the size of a tensor.
//
// Not thread-safe. Must not outlive its backend.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_INTERNAL_OVERLAPPED_READER_H_
#define SINKLORA_COMMON_MODEL_INTERNAL_OVERLAPPED_READER_H_

#include <array>
#include <cstdint>
#include <functional>
#include <future>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "kernels/backend.h"

namespace sinklora::internal {

class OverlappedReader {
 public:
  // Called on another thread, one call at a time.
  using Sink = std::function<absl::Status(std::string_view bytes)>;
  static constexpr int64_t kPieceBytes = int64_t{16} << 20;

  explicit OverlappedReader(kernels::Backend* backend,
                            int64_t piece_bytes = kPieceBytes)
      : backend_(backend), piece_bytes_(piece_bytes) {}
  // Waits for the sink.
  ~OverlappedReader() = default;
  OverlappedReader(const OverlappedReader&) = delete;
  OverlappedReader& operator=(const OverlappedReader&) = delete;

  // Hands [device, device + size_bytes) to `sink`, in order and behind all
  // earlier calls. On return all is copied, but for errors, and the last piece
  // may still be with the sink. An error of a sink comes from this or a later
  // call.
  absl::Status Read(const void* device, int64_t size_bytes, const Sink& sink);
  // Waits until the sink has taken everything.
  absl::Status Finish();

 private:
  kernels::Backend* const backend_;
  const int64_t piece_bytes_;
  std::array<std::string, 2> pieces_;
  size_t next_ = 0;                  // that the sink does not have
  std::future<absl::Status> taken_;  // of the other; last, as it uses pieces_
};

}  // namespace sinklora::internal

#endif  // SINKLORA_COMMON_MODEL_INTERNAL_OVERLAPPED_READER_H_
