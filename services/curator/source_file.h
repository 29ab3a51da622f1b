// records.jsonl: the normalised records of one source, one JSON object a line
// (record.h), in order of file and position. The SHA-256 of the file is the
// source's digest.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CURATOR_SOURCE_FILE_H_
#define SINKLORA_SERVICES_CURATOR_SOURCE_FILE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/files.h"
#include "services/curator/hashing_writer.h"
#include "services/curator/record.h"

namespace sinklora::curator {

// Not thread-safe.
class SourceWriter {
 public:
  static absl::StatusOr<std::unique_ptr<SourceWriter>> Create(
      const std::string& path);
  absl::Status Add(const Record& record);
  // Makes the file visible and returns its digest.
  absl::StatusOr<std::string> Finish();
  int64_t record_count() const { return record_count_; }
  int64_t text_bytes() const { return text_bytes_; }

 private:
  explicit SourceWriter(std::unique_ptr<HashingWriter> writer)
      : writer_(std::move(writer)) {}
  const std::unique_ptr<HashingWriter> writer_;
  int64_t record_count_ = 0;
  int64_t text_bytes_ = 0;
};

// Random access to the records of a mapped file. Thread-safe.
class SourceReader {
 public:
  // Checks the whole file against `digest`: kDataLoss naming the file and both
  // digests when it differs or is gone.
  static absl::StatusOr<std::unique_ptr<SourceReader>> Open(
      const std::string& path, const std::string& digest);
  int64_t record_count() const {
    return static_cast<int64_t>(line_starts_.size()) - 1;
  }
  // REQUIRES: 0 <= record < record_count().
  absl::StatusOr<Record> Read(int64_t record) const;

 private:
  SourceReader(std::unique_ptr<MappedFile> file,
               std::vector<size_t> line_starts)
      : file_(std::move(file)), line_starts_(std::move(line_starts)) {}
  const std::unique_ptr<MappedFile> file_;
  const std::vector<size_t> line_starts_;  // and the end of the file
};

}  // namespace sinklora::curator

#endif  // SINKLORA_SERVICES_CURATOR_SOURCE_FILE_H_
