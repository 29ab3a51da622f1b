// Reads the container of a GGUF file: maps it, checks all of header, metadata
// and tensor infos, and hands out views. Nothing is allocated that the file's
// own size does not bound, whatever counts it claims.
//
// Thread-safe after Open. Views live as long as the GgufFile (and, after Parse,
// as the data given).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_GGUF_GGUF_FILE_H_
#define SINKLORA_COMMON_GGUF_GGUF_FILE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/files.h"
#include "common/gguf/gguf_format.h"

namespace sinklora {

struct GgufTensor {
  std::string name;
  GgmlType type = GgmlType::kF32;
  std::vector<int64_t> shape;  // row-major: the file's dimensions reversed
  std::string_view bytes;
};

class GgufFile {
 public:
  // kInvalidArgument naming the file, the key or tensor, what was found and
  // what is allowed: another magic or version, a count or length beyond the
  // file, a value of unknown type, nested arrays, a key or tensor name that
  // comes twice, is empty, too long or not UTF-8, an alignment that is no power
  // of two, a tensor of a type that is not read here, with a shape that
  // overflows, or that does not lie right behind the one before.
  static absl::StatusOr<std::unique_ptr<GgufFile>> Open(
      const std::string& path);
  // The same from memory; `what` stands for the file in errors.
  static absl::StatusOr<std::unique_ptr<GgufFile>> Parse(
      std::string_view data, const std::string& what);

  // The path, for messages.
  const std::string& what() const { return what_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  std::vector<std::string> keys() const;

  // Metadata: nullopt when the key is absent, kInvalidArgument when it has
  // another type, is not finite or, for integers, lies outside [0, max].
  absl::StatusOr<std::optional<int64_t>> GetInt(std::string_view key,
                                                int64_t max) const;
  absl::StatusOr<std::optional<double>> GetNumber(std::string_view key) const;
  absl::StatusOr<std::optional<bool>> GetBool(std::string_view key) const;
  absl::StatusOr<std::optional<std::string_view>> GetString(
      std::string_view key) const;
  // An error for a string with which nothing can be done.
  absl::Status BadString(std::string_view key,
                         std::optional<std::string_view> value,
                         const std::string& allowed) const;
  absl::StatusOr<std::optional<std::vector<std::string_view>>> GetStrings(
      std::string_view key) const;
  absl::StatusOr<std::optional<std::vector<float>>> GetFloats(
      std::string_view key) const;
  absl::StatusOr<std::optional<std::vector<int32_t>>> GetInt32s(
      std::string_view key) const;

 private:
  class Parser;

  struct Value {
    uint32_t type = 0;
    uint32_t element_type = 0;  // of an array
    uint64_t count = 0;         // of an array
    std::string_view bytes;     // of the value, or of an array's elements
  };
  GgufFile() = default;
  const Value* Find(std::string_view key) const;
  absl::Status TypeError(std::string_view key, const Value& value,
                         const std::string& expected) const;
  // nullptr when absent; otherwise an array of `element_type`.
  absl::StatusOr<const Value*> FindArray(std::string_view key,
                                         GgufValueType element_type) const;

  std::unique_ptr<MappedFile> file_;  // null after Parse
  std::string what_;
  std::map<std::string, Value, std::less<>> values_;
  std::vector<GgufTensor> tensors_;
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_GGUF_GGUF_FILE_H_
