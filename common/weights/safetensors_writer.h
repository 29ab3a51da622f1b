// Writes safetensors as a stream: tensors are declared first, then their bytes
// come piece by piece, so a file of any size needs the memory of one piece.
//
// The bytes are those that the reference implementation writes for the same
// tensors (safetensors 0.8): wider element types first, so that every tensor is
// aligned to its type, then by name, with the header padded to a multiple of 8.
// Tensors must be appended in that order, which tensors() has. Whatever is
// written is read by ParseSafetensors.
//
// Not thread-safe. Errors name the file and the tensor. Dropped before
// Finish(), a writer removes what it wrote.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_WEIGHTS_SAFETENSORS_WRITER_H_
#define SINKLORA_COMMON_WEIGHTS_SAFETENSORS_WRITER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/files.h"
#include "common/weights/file_dtype.h"

namespace sinklora {

struct TensorSpec {
  std::string name;
  FileDType dtype = FileDType::kF32;
  std::vector<int64_t> shape;
};

class SafetensorsWriter {
 public:
  // Nothing is visible at `path` before Finish(). kInvalidArgument for a name
  // that comes twice, is "__metadata__" or not UTF-8, for a shape that
  // overflows, or for a header beyond the format's limit.
  static absl::StatusOr<std::unique_ptr<SafetensorsWriter>> Create(
      const std::string& path, std::vector<TensorSpec> tensors,
      const std::map<std::string, std::string>& metadata);

  // In the order in which their bytes must come.
  const std::vector<TensorSpec>& tensors() const { return tensors_; }

  // The next bytes of tensor `name`, in pieces of any size. kInvalidArgument
  // when it is another tensor's turn or there are more than it has.
  absl::Status Append(std::string_view name, std::string_view bytes);
  // Makes the file visible and durable: fsync, rename, fsync of the directory.
  // kInvalidArgument naming the first tensor that lacks bytes.
  absl::Status Finish();
  // True when every tensor has its bytes.
  bool complete() const { return current_ == tensors_.size(); }

 private:
  SafetensorsWriter() = default;
  // Passes tensors that have their bytes.
  void Advance();

  std::string path_;
  std::vector<TensorSpec> tensors_;
  std::vector<uint64_t> bytes_;  // of each tensor
  std::unique_ptr<FileWriter> file_;
  size_t current_ = 0;    // index of the tensor whose turn it is
  uint64_t written_ = 0;  // bytes of it so far
};

// Writes the weights of a model directory: model.safetensors, or, when they
// pass `max_shard_bytes`, model-0000I-of-0000N.safetensors and
// model.safetensors.index.json, named and split as transformers does.
class ModelWeightsWriter {
 public:
  // transformers' default.
  static constexpr uint64_t kMaxShardBytes = 5'000'000'000;

  // `tensors` in the order of the model, in which they are dealt to shards.
  // The directory must exist. kAlreadyExists when it has weights in the other
  // form, sharded or not, which would be ambiguous.
  static absl::StatusOr<std::unique_ptr<ModelWeightsWriter>> Create(
      const std::string& directory, std::vector<TensorSpec> tensors,
      const std::map<std::string, std::string>& metadata,
      uint64_t max_shard_bytes = kMaxShardBytes);
  ~ModelWeightsWriter();

  // In the order in which their bytes must come: shard by shard, each as
  // SafetensorsWriter has it.
  const std::vector<TensorSpec>& tensors() const { return tensors_; }
  absl::Status Append(std::string_view name, std::string_view bytes);
  // The index comes last: before it, the directory is no model.
  absl::Status Finish();

 private:
  ModelWeightsWriter() = default;
  bool sharded() const { return shard_names_.size() > 1; }
  // Finishes the shards that are complete and opens the one that is not.
  absl::Status Advance();
  absl::Status WriteIndex();

  std::string directory_;
  std::map<std::string, std::string> metadata_;
  std::vector<TensorSpec> tensors_;
  std::vector<size_t> shard_ends_;  // one past each shard's last tensor
  std::vector<std::string> shard_names_;
  uint64_t total_bytes_ = 0;
  std::unique_ptr<SafetensorsWriter> file_;  // of shard_
  size_t shard_ = 0;                         // those before are finished
  bool finished_ = false;
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_WEIGHTS_SAFETENSORS_WRITER_H_
