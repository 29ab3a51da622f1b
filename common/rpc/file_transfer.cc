// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/file_transfer.h"

#include <fmt/format.h>

#include <filesystem>
#include <string_view>

#include "common/base/status.h"

namespace sinklora {
namespace {

absl::Status SendFile(const std::string& root, const FileToSend& wanted,
                      const std::function<bool(common::v1::FileChunk)>& send) {
  SL_RETURN_IF_ERROR(CheckTransferPath(wanted.path));
  SL_ASSIGN_OR_RETURN(const auto file,
                      MappedFile::Open(JoinPath(root, wanted.path)));
  const auto size_bytes = static_cast<int64_t>(file->data().size());
  if (wanted.offset < 0 || wanted.offset > size_bytes) {
    return MakeError(absl::StatusCode::kOutOfRange,
                     fmt::format("offset {} of {} is not in [0, {}]",
                                 wanted.offset, wanted.path, size_bytes),
                     {"OFFSET_OUT_OF_RANGE",
                      {{"path", wanted.path},
                       {"offset", std::to_string(wanted.offset)},
                       {"size_bytes", std::to_string(size_bytes)}}});
  }
  int64_t offset = wanted.offset;
  const bool compute_hash = wanted.sha256.empty();
  Sha256 hash;
  if (compute_hash) {
    hash.Update(file->data().substr(0, static_cast<size_t>(offset)));
  }
  bool last = false;
  while (!last) {
    const std::string_view data =
        file->data().substr(static_cast<size_t>(offset), kFileChunkBytes);
    if (compute_hash) hash.Update(data);
    common::v1::FileChunk chunk;
    chunk.set_path(wanted.path);
    chunk.set_offset(offset);
    chunk.set_data(std::string(data));
    offset += static_cast<int64_t>(data.size());
    last = offset == size_bytes;
    chunk.set_last(last);
    if (last) {
      chunk.set_sha256(compute_hash ? hash.FinishHex() : wanted.sha256);
    }
    if (!send(std::move(chunk))) {
      return absl::UnavailableError(
          fmt::format("peer went away while {} was sent", wanted.path));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckTransferPath(const std::string& path) {
  if (IsSafeRelativePath(path)) return absl::OkStatus();
  return MakeError(absl::StatusCode::kInvalidArgument,
                   fmt::format("path '{}' is not a relative path below the "
                               "transfer's root",
                               path),
                   {"UNSAFE_PATH", {{"path", path}}});
}

absl::Status SendFiles(const std::string& root,
                       const std::vector<std::string>& files,
                       const std::function<bool(common::v1::FileChunk)>& send) {
  for (const std::string& path : files) {
    SL_RETURN_IF_ERROR(SendFile(root, {path, 0, ""}, send));
  }
  return absl::OkStatus();
}

absl::Status SendFileParts(
    const std::string& root, const std::vector<FileToSend>& files,
    const std::function<bool(common::v1::FileChunk)>& send) {
  for (const FileToSend& file : files) {
    SL_RETURN_IF_ERROR(SendFile(root, file, send));
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
  if (chunk.offset() != writer_->size_bytes()) {
    return absl::InvalidArgumentError(
        fmt::format("chunk of {} at offset {}, the next one is at {}",
                    chunk.path(), chunk.offset(), writer_->size_bytes()));
  }
  SL_RETURN_IF_ERROR(writer_->Append(chunk.data()));
  hash_.Update(chunk.data());
  total_bytes_ += size_bytes;
  return chunk.last() ? End(chunk.sha256()) : absl::OkStatus();
}

absl::Status FileReceiver::Begin(const std::string& path) {
  SL_RETURN_IF_ERROR(CheckTransferPath(path));
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
