// Writes a GGUF file as a stream: metadata and tensors are declared first, then
// the tensors' bytes come piece by piece, so a file of any size needs the
// memory of one piece. Keys and tensors come in the order in which they are
// added; equal input gives equal bytes.
//
// Not thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_GGUF_GGUF_WRITER_H_
#define SINKLORA_COMMON_GGUF_GGUF_WRITER_H_

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/files.h"
#include "common/gguf/gguf_format.h"

namespace sinklora {

// REQUIRES: no key comes twice.
class GgufHeader {
 public:
  void AddUint32(const std::string& key, uint32_t value);
  void AddFloat(const std::string& key, float value);
  void AddBool(const std::string& key, bool value);
  void AddString(const std::string& key, std::string_view value);
  void AddStrings(const std::string& key,
                  const std::vector<std::string>& values);
  void AddFloats(const std::string& key, const std::vector<float>& values);
  void AddInt32s(const std::string& key, const std::vector<int32_t>& values);

  // `shape` row-major. kInvalidArgument naming the tensor for a name that comes
  // twice or is too long, a shape of more than four dimensions, a last
  // dimension that is no multiple of the type's block.
  absl::Status AddTensor(const std::string& name, GgmlType type,
                         const std::vector<int64_t>& shape);

 private:
  friend class GgufWriter;
  struct Tensor {
    std::string name;
    uint64_t bytes;
  };
  void AddKey(const std::string& key, GgufValueType type);
  void AddArray(const std::string& key, GgufValueType type, uint64_t count);
  // The file's bytes up to the tensor data.
  std::string Serialize() const;

  std::string pairs_;
  uint64_t num_pairs_ = 0;
  std::string infos_;
  std::vector<Tensor> tensors_;
  std::set<std::string> names_;
  uint64_t data_bytes_ = 0;  // with padding
};

class GgufWriter {
 public:
  // Nothing is visible at `path` before Finish().
  static absl::StatusOr<std::unique_ptr<GgufWriter>> Create(
      const std::string& path, GgufHeader header);
  // The next bytes of tensor `name`; tensors come in the order of the header.
  // kInternal when it is another tensor's turn or it has no more bytes.
  absl::Status Append(std::string_view name, std::string_view bytes);
  // kInternal when bytes are missing.
  absl::Status Finish();

 private:
  GgufWriter() = default;
  GgufHeader header_;
  std::unique_ptr<FileWriter> file_;
  size_t current_ = 0;    // index of the tensor whose turn it is
  uint64_t written_ = 0;  // bytes of it so far
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_GGUF_GGUF_WRITER_H_
