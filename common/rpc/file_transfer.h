// Files over streams: the chunking that every upload and download RPC of the
// product shares.
//
// A transfer is a sequence of chunks; each names its file and carries at most 1
// MiB. A file's last chunk has `last` set and the SHA-256 of the whole file,
// which the receiver checks. Not thread-safe.
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

// Receives chunks into files below `root`, an empty or absent directory.
// Refuses unsafe paths, chunks over 1 MiB, a second file before the first ended
// and a file sent twice (kInvalidArgument), a checksum mismatch (kDataLoss),
// more than `max_total_bytes` or kMaxTransferFiles (kResourceExhausted). After
// an error the receiver is of no further use.
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
