// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/file_transfer.h"

#include <fmt/format.h>

#include <filesystem>
#include <string_view>

#include "common/base/status.h"

namespace sinklora {
namespace {

absl::Status CheckPath(const std::string& path) {
  if (IsSafeRelativePath(path)) return absl::OkStatus();
  return MakeError(absl::StatusCode::kInvalidArgument,
                   fmt::format("path '{}' is not a relative path below the "
                               "transfer's root",
                               path),
                   {"UNSAFE_PATH", {{"path", path}}});
}

absl::Status SendFile(const std::string& root, const std::string& path,
                      const std::function<bool(common::v1::FileChunk)>& send) {
  SL_RETURN_IF_ERROR(CheckPath(path));
  SL_ASSIGN_OR_RETURN(const auto file, MappedFile::Open(JoinPath(root, path)));
  std::string_view rest = file->data();
  Sha256 hash;
  bool last = false;
  while (!last) {
    const std::string_view data = rest.substr(0, kFileChunkBytes);
    rest.remove_prefix(data.size());
    hash.Update(data);
    last = rest.empty();
    common::v1::FileChunk chunk;
    chunk.set_path(path);
    chunk.set_data(std::string(data));
    chunk.set_last(last);
    if (last) chunk.set_sha256(hash.FinishHex());
    if (!send(std::move(chunk))) {
      return absl::UnavailableError(
          fmt::format("peer went away while {} was sent", path));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status SendFiles(const std::string& root,
                       const std::vector<std::string>& files,
                       const std::function<bool(common::v1::FileChunk)>& send) {
  for (const std::string& path : files) {
    SL_RETURN_IF_ERROR(SendFile(root, path, send));
  }
  return absl::OkStatus();
}

FileReceiver::FileReceiver(std::string root, int64_t max_total_bytes)
    : root_(std::move(root)), max_total_bytes_(max_total_bytes) {}

FileReceiver::~FileReceiver() = default;

absl::Status FileReceiver::Accept(const common::v1::FileChunk& chunk) {
  const int64_t size_bytes = static_cast<int64_t>(chunk.data().size());
  if (size_bytes > kFileChunkBytes) {
    return absl::InvalidArgumentError(
        fmt::format("chunk of {} has {} bytes, limit {}", chunk.path(),
                    size_bytes, kFileChunkBytes));
  }
  if (size_bytes > max_total_bytes_ - total_bytes_) {
    return MakeError(absl::StatusCode::kResourceExhausted,
                     fmt::format("transfer exceeds {} bytes at file {}",
                                 max_total_bytes_, chunk.path()),
                     {"TRANSFER_TOO_LARGE",
                      {{"path", chunk.path()},
                       {"limit", std::to_string(max_total_bytes_)}}});
  }
  if (writer_ == nullptr) SL_RETURN_IF_ERROR(Begin(chunk.path()));
  if (chunk.path() != current_path_) {
    return absl::InvalidArgumentError(fmt::format(
        "chunk of {} before the end of {}", chunk.path(), current_path_));
  }
  SL_RETURN_IF_ERROR(writer_->Append(chunk.data()));
  hash_.Update(chunk.data());
  total_bytes_ += size_bytes;
  return chunk.last() ? End(chunk.sha256()) : absl::OkStatus();
}

absl::Status FileReceiver::Begin(const std::string& path) {
  SL_RETURN_IF_ERROR(CheckPath(path));
  if (static_cast<int64_t>(begun_paths_.size()) >= kMaxTransferFiles) {
    return absl::ResourceExhaustedError(fmt::format(
        "transfer has more than {} files at {}", kMaxTransferFiles, path));
  }
  if (!begun_paths_.insert(path).second) {
    return absl::InvalidArgumentError(
        fmt::format("file {} was sent twice", path));
  }
  const std::string target = JoinPath(root_, path);
  SL_RETURN_IF_ERROR(
      MakeDirs(std::filesystem::path(target).parent_path().string()));
  SL_ASSIGN_OR_RETURN(writer_, FileWriter::Create(target));
  current_path_ = path;
  hash_ = Sha256();
  return absl::OkStatus();
}

absl::Status FileReceiver::End(const std::string& expected_sha256) {
  const std::string sha256 = hash_.FinishHex();
  const std::unique_ptr<FileWriter> writer = std::move(writer_);
  if (sha256 != expected_sha256) {
    return MakeError(
        absl::StatusCode::kDataLoss,
        fmt::format("file {} arrived with SHA-256 {}, its sender says '{}'",
                    current_path_, sha256, expected_sha256),
        {"CHECKSUM_MISMATCH", {{"path", current_path_}}});
  }
  SL_RETURN_IF_ERROR(writer->Finish());
  received_.push_back({current_path_, writer->size_bytes(), sha256});
  return absl::OkStatus();
}

absl::Status FileReceiver::Finish() {
  if (writer_ == nullptr) return absl::OkStatus();
  writer_.reset();
  return MakeError(
      absl::StatusCode::kDataLoss,
      fmt::format("stream ended in the middle of file {}", current_path_),
      {"TRANSFER_INCOMPLETE", {{"path", current_path_}}});
}

}  // namespace sinklora
