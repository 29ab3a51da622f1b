// A FileWriter that gathers small appends into large writes and knows the
// SHA-256 of what went through it. Not thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CURATOR_HASHING_WRITER_H_
#define SINKLORA_SERVICES_CURATOR_HASHING_WRITER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/files.h"
#include "common/base/hash.h"

namespace sinklora::curator {

class HashingWriter {
 public:
  static absl::StatusOr<std::unique_ptr<HashingWriter>> Create(
      const std::string& path);
  absl::Status Append(std::string_view data);
  // Makes the file visible under its name; returns its SHA-256.
  absl::StatusOr<std::string> Finish();
  int64_t size_bytes() const { return size_bytes_; }

 private:
  explicit HashingWriter(std::unique_ptr<FileWriter> writer)
      : writer_(std::move(writer)) {}
  absl::Status Flush();

  const std::unique_ptr<FileWriter> writer_;
  Sha256 hash_;
  std::string buffer_;
  int64_t size_bytes_ = 0;
};

}  // namespace sinklora::curator

#endif  // SINKLORA_SERVICES_CURATOR_HASHING_WRITER_H_
