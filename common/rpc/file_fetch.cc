// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/file_fetch.h"

#include <fmt/format.h>

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "common/base/files.h"
#include "common/base/hash.h"
#include "common/base/log.h"
#include "common/base/status.h"
#include "common/rpc/file_transfer.h"

namespace sinklora {
namespace {

using common::v1::FileChunk;
using common::v1::FileInfo;
using common::v1::FileOffset;

// An unfinished file is kept under this and its SHA-256. Two files of one
// content share it, which is as well.
constexpr char kPartPrefix[] = ".part-";

absl::Status DataLoss(const std::string& path, const std::string& message,
                      const char* reason) {
  return MakeError(absl::StatusCode::kDataLoss, message,
                   {reason, {{"path", path}}});
}

// One download into one directory.
class Fetch {
 public:
  Fetch(std::string directory, const FetchCall& call)
      : directory_(std::move(directory)), call_(call) {}

  absl::Status Run(const std::vector<FileInfo>& files) {
    SL_RETURN_IF_ERROR(List(files));
    SL_RETURN_IF_ERROR(MakeDirs(directory_));
    SL_RETURN_IF_ERROR(RemoveStrangers());
    SL_RETURN_IF_ERROR(FindMissing());
    while (!missing_.empty()) SL_RETURN_IF_ERROR(CallOnce());
    return absl::OkStatus();
  }

 private:
  absl::Status List(const std::vector<FileInfo>& files) {
    for (const FileInfo& file : files) {
      SL_RETURN_IF_ERROR(CheckTransferPath(file.path()));
      if (file.path().starts_with(kPartPrefix)) {
        return absl::InvalidArgumentError(
            fmt::format("file {}: names that begin with {} are reserved",
                        file.path(), kPartPrefix));
      }
      if (!files_.emplace(file.path(), file).second) {
        return absl::InvalidArgumentError(
            fmt::format("file {} is listed twice", file.path()));
      }
    }
    return absl::OkStatus();
  }

  std::string Path(const std::string& path) const {
    return JoinPath(directory_, path);
  }
  std::string PartPath(const FileInfo& file) const {
    return Path(kPartPrefix + file.sha256());
  }

  absl::Status RemoveStrangers() {
    std::set<std::string> known;
    for (const auto& [path, file] : files_) {
      known.insert(path);
      known.insert(kPartPrefix + file.sha256());
    }
    SL_ASSIGN_OR_RETURN(const auto found, ListFilesRecursive(directory_));
    for (const std::string& path : found) {
      if (!known.contains(path)) SL_RETURN_IF_ERROR(RemoveAll(Path(path)));
    }
    return absl::OkStatus();
  }

  // Fills missing_; removes files and parts that cannot be right.
  absl::Status FindMissing() {
    for (const auto& [path, file] : files_) {
      if (FileExists(Path(path))) {
        SL_ASSIGN_OR_RETURN(const int64_t size_bytes, FileSize(Path(path)));
        if (size_bytes == file.size_bytes()) {
          SL_ASSIGN_OR_RETURN(const auto sha256, Sha256OfFile(Path(path)));
          if (sha256 == file.sha256()) continue;
        }
        LogWarning("{}: damaged, it will be fetched again", Path(path));
        SL_RETURN_IF_ERROR(RemoveAll(Path(path)));
      }
      missing_.insert(path);
      if (!FileExists(PartPath(file))) continue;
      SL_ASSIGN_OR_RETURN(const int64_t part_bytes, FileSize(PartPath(file)));
      if (part_bytes > file.size_bytes()) {
        SL_RETURN_IF_ERROR(RemoveAll(PartPath(file)));
      }
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<FileOffset>> Wanted() const {
    std::vector<FileOffset> wanted;
    for (const std::string& path : missing_) {
      const std::string part = PartPath(files_.at(path));
      FileOffset offset;
      offset.set_path(path);
      if (FileExists(part)) {
        SL_ASSIGN_OR_RETURN(const int64_t part_bytes, FileSize(part));
        offset.set_offset(part_bytes);
      }
      wanted.push_back(std::move(offset));
    }
    return wanted;
  }

  // Asks for everything that is missing. OK: there is a reason to ask again.
  absl::Status CallOnce() {
    SL_ASSIGN_OR_RETURN(const auto wanted, Wanted());
    received_bytes_ = 0;
    discarded_ = false;
    absl::Status status =
        call_(wanted, [this](const FileChunk& chunk) { return Accept(chunk); });
    current_.reset();
    if (discarded_) return absl::OkStatus();
    if (absl::IsUnavailable(status) && received_bytes_ > 0) {
      LogInfo("download into {} was cut, going on: {}", directory_,
              std::string(status.message()));
      return absl::OkStatus();
    }
    if (!status.ok() || missing_.empty()) return status;
    return DataLoss(
        *missing_.begin(),
        fmt::format("the download ended without all of {}", *missing_.begin()),
        "TRANSFER_INCOMPLETE");
  }

  absl::Status Accept(const FileChunk& chunk) {
    if (!current_) SL_RETURN_IF_ERROR(Begin(chunk));
    if (chunk.path() != current_->file.path()) {
      return absl::InvalidArgumentError(
          fmt::format("chunk of {} before the end of {}", chunk.path(),
                      current_->file.path()));
    }
    AppendWriter& writer = *current_->writer;
    if (chunk.offset() != writer.size_bytes()) {
      return absl::InvalidArgumentError(
          fmt::format("chunk of {} at offset {}, the next one is at {}",
                      chunk.path(), chunk.offset(), writer.size_bytes()));
    }
    const auto chunk_bytes = static_cast<int64_t>(chunk.data().size());
    if (chunk_bytes > current_->file.size_bytes() - writer.size_bytes()) {
      return DataLoss(chunk.path(),
                      fmt::format("{} is longer than the {} bytes it should "
                                  "have",
                                  chunk.path(), current_->file.size_bytes()),
                      "CHECKSUM_MISMATCH");
    }
    SL_RETURN_IF_ERROR(writer.Append(chunk.data()));
    current_->hash.Update(chunk.data());
    received_bytes_ += chunk_bytes;
    return chunk.last() ? End() : absl::OkStatus();
  }

  // Opens the part of the chunk's file and hashes what it has.
  absl::Status Begin(const FileChunk& chunk) {
    if (!missing_.contains(chunk.path())) {
      return absl::InvalidArgumentError(
          fmt::format("file {} was sent, but not asked for", chunk.path()));
    }
    Current current;
    current.file = files_.at(chunk.path());
    const std::string part = PartPath(current.file);
    SL_ASSIGN_OR_RETURN(current.writer, AppendWriter::Open(part));
    current.resumed = current.writer->size_bytes() > 0;
    if (current.resumed) {
      SL_ASSIGN_OR_RETURN(const auto mapped, MappedFile::Open(part));
      current.hash.Update(mapped->data());
    }
    current_ = std::move(current);
    return absl::OkStatus();
  }

  absl::Status End() {
    Current current = *std::exchange(current_, std::nullopt);
    const std::string& path = current.file.path();
    const std::string sha256 = current.hash.FinishHex();
    if (sha256 == current.file.sha256() &&
        current.writer->size_bytes() == current.file.size_bytes()) {
      SL_RETURN_IF_ERROR(
          MakeDirs(std::filesystem::path(Path(path)).parent_path().string()));
      SL_RETURN_IF_ERROR(current.writer->FinishAs(Path(path)));
      missing_.erase(path);
      return absl::OkStatus();
    }
    SL_RETURN_IF_ERROR(RemoveAll(PartPath(current.file)));
    const absl::Status wrong =
        DataLoss(path,
                 fmt::format("file {} arrived with {} bytes and SHA-256 {}, "
                             "not {} bytes and SHA-256 {}",
                             path, current.writer->size_bytes(), sha256,
                             current.file.size_bytes(), current.file.sha256()),
                 "CHECKSUM_MISMATCH");
    // The first bytes came with an earlier call: they may be what is wrong, so
    // the file gets one more chance, from its start.
    discarded_ = current.resumed && given_up_parts_.insert(path).second;
    if (discarded_) {
      LogWarning("fetching {} again: {}", path, std::string(wrong.message()));
    }
    return wrong;
  }

  struct Current {
    FileInfo file;
    std::unique_ptr<AppendWriter> writer;
    Sha256 hash;
    bool resumed = false;
  };

  const std::string directory_;
  const FetchCall& call_;
  std::map<std::string, FileInfo> files_;
  std::set<std::string> missing_;
  std::optional<Current> current_;
  std::set<std::string> given_up_parts_;  // paths
  int64_t received_bytes_ = 0;            // by the call in progress
  bool discarded_ = false;                // it met a wrong part
};

}  // namespace

absl::Status FetchFiles(const std::string& directory,
                        const std::vector<FileInfo>& files,
                        const FetchCall& call) {
  return Fetch(directory, call).Run(files);
}

}  // namespace sinklora
