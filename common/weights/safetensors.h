// safetensors: 8-byte little-endian header length, JSON header, tensor bytes.
// Reader maps the file and hands out views; everything in the header is checked
// before any byte of a tensor is touched. Writing: safetensors_writer.h.
//
// The format puts tensors at any offset, so the bytes of a view may be
// unaligned: read them with memcpy or with the functions here, never through a
// cast pointer.
//
// Thread-safe after Open. Views live as long as the SafetensorsFile. The file
// must not shrink while it is open: reading a page that is gone ends the
// process, as with every memory map.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_WEIGHTS_SAFETENSORS_H_
#define SINKLORA_COMMON_WEIGHTS_SAFETENSORS_H_

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
#include "common/weights/file_dtype.h"

namespace sinklora {

struct StoredTensor {
  FileDType dtype = FileDType::kF32;
  std::vector<int64_t> shape;
  std::string_view bytes;  // little-endian, row-major, at any alignment

  int64_t num_elements() const;
};

// All values as f32 (F32, F16, BF16 only; kInvalidArgument for others).
absl::StatusOr<std::vector<float>> ToF32(const StoredTensor& tensor);

// Index, in row-major order, of the first NaN or infinity; nullopt when there
// is none, and for types other than F32, F16 and BF16. Runs at the speed of
// memory.
std::optional<int64_t> FirstNonFinite(const StoredTensor& tensor);

struct SafetensorsContent {
  std::map<std::string, StoredTensor> tensors;  // views into the file's bytes
  std::map<std::string, std::string> metadata;
};

// The limits of the reader, which the writer keeps.
constexpr uint64_t kMaxSafetensorsHeaderBytes =
    100'000'000;  // the reference implementation's
constexpr size_t kMaxSafetensorsEntries = 1 << 17;  // tensors; metadata keys
constexpr size_t kMaxSafetensorsRank = 64;

// Parses a whole file in memory; only its header is read. kInvalidArgument
// naming `what` (a path), the tensor and the defect: a header length beyond the
// file or the limit, JSON that is not the format's (strings, lists and objects
// only where it has them, so that nesting is bounded; duplicate keys; keys it
// does not know), an unknown dtype, offsets that overlap, leave a hole or pass
// the end, shape x dtype != bytes. Memory is bounded by the tensors described.
// A torch pickle is named as such, with what to do about it.
absl::StatusOr<SafetensorsContent> ParseSafetensors(std::string_view file,
                                                    const std::string& what);

class SafetensorsFile {
 public:
  // Maps and parses `path`.
  static absl::StatusOr<std::unique_ptr<SafetensorsFile>> Open(
      const std::string& path);

  const std::map<std::string, StoredTensor>& tensors() const {
    return content_.tensors;
  }
  const std::map<std::string, std::string>& metadata() const {
    return content_.metadata;
  }

 private:
  SafetensorsFile() = default;
  std::unique_ptr<MappedFile> file_;
  SafetensorsContent content_;
};

// True for content that starts like a file of torch.save: a zip archive or a
// pickle.
bool IsTorchPickle(std::string_view file);
// "NAME is a torch pickle ...": why it is refused, and the safe way.
absl::Status TorchPickleError(const std::string& name);

// Writes `tensors` with SafetensorsWriter.
absl::Status WriteSafetensors(
    const std::string& path, const std::map<std::string, StoredTensor>& tensors,
    const std::map<std::string, std::string>& metadata);

// Owns converted bytes for writing: f32 values stored as `dtype` (F32 or BF16).
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
