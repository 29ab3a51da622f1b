// SPDX-License-Identifier: Apache-2.0
#include "services/curator/hashing_writer.h"

#include "common/base/status.h"

namespace sinklora::curator {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;

}  // namespace

absl::StatusOr<std::unique_ptr<HashingWriter>> HashingWriter::Create(
    const std::string& path) {
  SL_ASSIGN_OR_RETURN(auto writer, FileWriter::Create(path));
  return std::unique_ptr<HashingWriter>(new HashingWriter(std::move(writer)));
}

absl::Status HashingWriter::Append(std::string_view data) {
  buffer_.append(data);
  size_bytes_ += static_cast<int64_t>(data.size());
  return buffer_.size() < kBufferBytes ? absl::OkStatus() : Flush();
}

absl::Status HashingWriter::Flush() {
  hash_.Update(buffer_);
  SL_RETURN_IF_ERROR(writer_->Append(buffer_));
  buffer_.clear();
  return absl::OkStatus();
}

absl::StatusOr<std::string> HashingWriter::Finish() {
  SL_RETURN_IF_ERROR(Flush());
  SL_RETURN_IF_ERROR(writer_->Finish());
  return hash_.FinishHex();
}

}  // namespace sinklora::curator
