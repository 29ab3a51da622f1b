// safetensors: 8-byte little-endian header length, JSON header, tensor bytes.
// Reader maps the file and hands out views; everything in the header is checked
// before any byte of a tensor is touched.
//
// Thread-safe after Open. Views live as long as the SafetensorsFile.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_WEIGHTS_SAFETENSORS_H_
#define SINKLORA_COMMON_WEIGHTS_SAFETENSORS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/files.h"

namespace sinklora {

enum class FileDType { kF32, kF16, kBF16, kI64, kI32, kU8 };

struct StoredTensor {
  FileDType dtype = FileDType::kF32;
  std::vector<int64_t> shape;
  std::string_view bytes;  // little-endian, row-major

  int64_t num_elements() const;
};

// All values as f32 (F32, F16, BF16 only; kInvalidArgument for integers).
absl::StatusOr<std::vector<float>> ToF32(const StoredTensor& tensor);

class SafetensorsFile {
 public:
  // kInvalidArgument naming the file and the defect: header length beyond the
  // file, bad JSON, unknown dtype, offsets that overlap, leave a hole or pass
  // the end, shape x dtype != bytes, duplicate name. A torch pickle is named as
  // such.
  static absl::StatusOr<std::unique_ptr<SafetensorsFile>> Open(
      const std::string& path);

  const std::map<std::string, StoredTensor>& tensors() const {
    return tensors_;
  }
  const std::map<std::string, std::string>& metadata() const {
    return metadata_;
  }

 private:
  SafetensorsFile() = default;
  std::unique_ptr<MappedFile> file_;
  std::map<std::string, StoredTensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

// Writes atomically (temp, fsync, rename). Tensors in the order of their names,
// data aligned to 64 bytes by padding the header with spaces. Equal input gives
// equal bytes.
absl::Status WriteSafetensors(
    const std::string& path, const std::map<std::string, StoredTensor>& tensors,
    const std::map<std::string, std::string>& metadata);

// Owns converted bytes for WriteSafetensors: f32 values stored as `dtype` (F32
// or BF16).
class TensorBytes {
 public:
  TensorBytes(const float* values, std::vector<int64_t> shape, FileDType dtype);
  StoredTensor view() const { return {dtype_, shape_, bytes_}; }

 private:
  FileDType dtype_;
  std::vector<int64_t> shape_;
  std::string bytes_;
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_WEIGHTS_SAFETENSORS_H_
