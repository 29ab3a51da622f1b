// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/upload_receiver.h"

#include <fmt/format.h>

#include "common/base/files.h"
#include "common/base/status.h"

namespace sinklora {

absl::StatusOr<std::unique_ptr<UploadReceiver>> UploadReceiver::Create(
    const std::string& root, const common::v1::TransferSize& announced,
    DiskBudget* disk, int64_t max_total_bytes) {
  const int64_t file_count = announced.file_count();
  const int64_t total_bytes = announced.total_bytes();
  if (file_count < 1 || file_count > kMaxTransferFiles || total_bytes < 0) {
    return MakeError(
        absl::StatusCode::kInvalidArgument,
        fmt::format("header.size announces {} files (allowed [1, {}]) with {} "
                    "bytes (allowed >= 0)",
                    file_count, kMaxTransferFiles, total_bytes),
        {"INVALID_TRANSFER_SIZE",
         {{"file_count", std::to_string(file_count)},
          {"total_bytes", std::to_string(total_bytes)}}});
  }
  if (total_bytes > max_total_bytes) {
    return MakeError(
        absl::StatusCode::kResourceExhausted,
        fmt::format("header.size announces {} bytes, at most {} are allowed",
                    total_bytes, max_total_bytes),
        {"TRANSFER_TOO_LARGE", {{"limit", std::to_string(max_total_bytes)}}});
  }
  SL_ASSIGN_OR_RETURN(auto room, disk->Reserve(total_bytes));
  return std::unique_ptr<UploadReceiver>(
      new UploadReceiver(root, announced, std::move(room)));
}

absl::Status UploadReceiver::Accept(const common::v1::FileChunk& chunk) {
  SL_RETURN_IF_ERROR(files_.Accept(chunk));
  room_->Written(static_cast<int64_t>(chunk.data().size()));
  return absl::OkStatus();
}

absl::Status UploadReceiver::Finish() {
  SL_RETURN_IF_ERROR(files_.Finish());
  int64_t total_bytes = 0;
  for (const auto& file : received()) total_bytes += file.size_bytes;
  const auto file_count = static_cast<int64_t>(received().size());
  if (file_count == announced_.file_count() &&
      total_bytes == announced_.total_bytes()) {
    return absl::OkStatus();
  }
  return MakeError(
      absl::StatusCode::kDataLoss,
      fmt::format("the upload ended with {} files and {} bytes, its header "
                  "announced {} files and {} bytes",
                  file_count, total_bytes, announced_.file_count(),
                  announced_.total_bytes()),
      {"TRANSFER_INCOMPLETE",
       {{"file_count", std::to_string(file_count)},
        {"total_bytes", std::to_string(total_bytes)},
        {"announced_file_count", std::to_string(announced_.file_count())},
        {"announced_total_bytes", std::to_string(announced_.total_bytes())}}});
}

absl::StatusOr<common::v1::TransferSize> MeasureFiles(
    const std::string& root, const std::vector<std::string>& files) {
  common::v1::TransferSize size;
  size.set_file_count(static_cast<int64_t>(files.size()));
  int64_t total_bytes = 0;
  for (const std::string& file : files) {
    SL_ASSIGN_OR_RETURN(const int64_t bytes, FileSize(JoinPath(root, file)));
    total_bytes += bytes;
  }
  size.set_total_bytes(total_bytes);
  return size;
}

}  // namespace sinklora
