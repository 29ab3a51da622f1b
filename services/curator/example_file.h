// examples-train.bin and examples-validation.bin: the examples of one split
// with random access by index. All numbers little-endian.
//
//   header   8 bytes "SLEXMPL1", u32 version (1), u32 zero
//   example  u32 tokens n, u32 documents d, n x i32 ids, ceil(n/8) bytes of
//            supervised bits (token i: bit i%8 of byte i/8), d x u32 document
//            lengths, 8 bytes: the first of the SHA-256 of the example so far
//   index    (count + 1) x u64: offset of each example, and of the index
//   footer   u64 examples, u64 tokens, u64 offset of the index, 8 bytes: the
//            first of the SHA-256 of the index and the numbers before,
//            "SLEXMEND"
//
// A reader trusts nothing: damage is kDataLoss naming file and place, never a
// wild read.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CURATOR_EXAMPLE_FILE_H_
#define SINKLORA_SERVICES_CURATOR_EXAMPLE_FILE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/files.h"
#include "services/curator/hashing_writer.h"
#include "services/curator/types.h"

namespace sinklora::curator {

// Not thread-safe.
class ExampleWriter {
 public:
  static absl::StatusOr<std::unique_ptr<ExampleWriter>> Create(
      const std::string& path);
  // REQUIRES: supervised has one entry a token, document_tokens sum up to them.
  absl::Status Add(const TrainingExample& example);
  // Makes the file visible; returns its SHA-256.
  absl::StatusOr<std::string> Finish();
  int64_t example_count() const {
    return static_cast<int64_t>(offsets_.size());
  }
  int64_t token_count() const { return token_count_; }
  int64_t supervised_count() const { return supervised_count_; }
  int64_t size_bytes() const { return writer_->size_bytes(); }

 private:
  explicit ExampleWriter(std::unique_ptr<HashingWriter> writer)
      : writer_(std::move(writer)) {}

  const std::unique_ptr<HashingWriter> writer_;
  std::vector<uint64_t> offsets_;
  int64_t token_count_ = 0;
  int64_t supervised_count_ = 0;
};

// Thread-safe (immutable).
class ExampleReader {
 public:
  static absl::StatusOr<std::unique_ptr<ExampleReader>> Open(
      const std::string& path);
  int64_t example_count() const { return example_count_; }
  int64_t token_count() const { return token_count_; }
  // kOutOfRange when index is not in [0, example_count()).
  absl::StatusOr<TrainingExample> Read(int64_t index) const;

 private:
  ExampleReader(std::string path, std::unique_ptr<MappedFile> file)
      : path_(std::move(path)), file_(std::move(file)) {}
  absl::Status Load();
  absl::Status Damaged(const std::string& what) const;

  const std::string path_;
  const std::unique_ptr<MappedFile> file_;
  uint64_t index_offset_ = 0;
  int64_t example_count_ = 0;
  int64_t token_count_ = 0;
};

}  // namespace sinklora::curator

#endif  // SINKLORA_SERVICES_CURATOR_EXAMPLE_FILE_H_
