// Files over streams: the chunking that every upload and download RPC of the
// product shares.
//
// A transfer is a sequence of chunks; each names its file, its place in it and
// carries at most 1 MiB. A file's last chunk has `last` set and the SHA-256 of
// the whole file, which the receiver checks. Not thread-safe.
//
// FileReceiver takes whole files; file_fetch.h takes files that may have begun
// to arrive in an earlier transfer.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_RPC_FILE_TRANSFER_H_
#define SINKLORA_COMMON_RPC_FILE_TRANSFER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/base/files.h"
#include "common/base/hash.h"
#include "sinklora/common/v1/file_chunk.pb.h"

namespace sinklora {

constexpr int64_t kFileChunkBytes = int64_t{1} << 20;
constexpr int64_t kMaxTransferFiles = 10'000;

// Sends each of `files` (relative to `root`) through `send`, which returns
// false when the peer went away (kUnavailable then). An empty file is one empty
// chunk.
absl::Status SendFiles(const std::string& root,
                       const std::vector<std::string>& files,
                       const std::function<bool(common::v1::FileChunk)>& send);

// A file, or the rest of one.
struct FileToSend {
  std::string path;    // relative to the root
  int64_t offset = 0;  // bytes that the receiver has already
  // Of the whole file, as it was when it was stored: a file that has rotted
  // since is found out by the receiver. Empty: computed from what is read.
  std::string sha256;
};
// As above. kOutOfRange for an offset beyond the end of its file.
absl::Status SendFileParts(
    const std::string& root, const std::vector<FileToSend>& files,
    const std::function<bool(common::v1::FileChunk)>& send);

// kInvalidArgument (reason UNSAFE_PATH) unless IsSafeRelativePath.
absl::Status CheckTransferPath(const std::string& path);

// Receives chunks into files below `root`, an empty or absent directory.
// Refuses unsafe paths, chunks over 1 MiB, a second file before the first
// ended, a file sent twice and chunks out of order (kInvalidArgument), a
// checksum mismatch (kDataLoss), more than `max_total_bytes` or
// kMaxTransferFiles (kResourceExhausted). After an error the receiver is of no
// further use.
class FileReceiver {
 public:
  FileReceiver(std::string root, int64_t max_total_bytes);
  ~FileReceiver();
  absl::Status Accept(const common::v1::FileChunk& chunk);
  // kDataLoss when the stream ended in the middle of a file.
  absl::Status Finish();
  struct Received {
    std::string path;  // relative to root
    int64_t size_bytes = 0;
    std::string sha256;
  };
  const std::vector<Received>& received() const { return received_; }

 private:
  absl::Status Begin(const std::string& path);
  absl::Status End(const std::string& expected_sha256);

  const std::string root_;
  const int64_t max_total_bytes_;
  int64_t total_bytes_ = 0;
  std::set<std::string> begun_paths_;
  std::string current_path_;
  std::unique_ptr<FileWriter> writer_;
  Sha256 hash_;
  std::vector<Received> received_;
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_RPC_FILE_TRANSFER_H_
