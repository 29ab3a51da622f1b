// SPDX-License-Identifier: Apache-2.0
#include "common/model/internal/overlapped_reader.h"

#include <algorithm>

#include "common/base/status.h"

namespace sinklora::internal {

absl::Status OverlappedReader::Read(const void* device, int64_t size_bytes,
                                    const Sink& sink) {
  const char* from = static_cast<const char*>(device);
  for (int64_t at = 0; at < size_bytes; at += piece_bytes_) {
    const int64_t bytes = std::min(piece_bytes_, size_bytes - at);
    std::string& piece = pieces_[next_];
    piece.resize(static_cast<size_t>(bytes));
    SL_RETURN_IF_KERNEL_ERROR(
        backend_->CopyToHost(from + at, piece.data(), bytes));
    SL_RETURN_IF_ERROR(Finish());
    taken_ =
        std::async(std::launch::async, [sink, &piece] { return sink(piece); });
    next_ = 1 - next_;
  }
  return absl::OkStatus();
}

absl::Status OverlappedReader::Finish() {
  return taken_.valid() ? taken_.get() : absl::OkStatus();
}

}  // namespace sinklora::internal
