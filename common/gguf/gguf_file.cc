// SPDX-License-Identifier: Apache-2.0
#include "common/gguf/gguf_file.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <set>
#include <utility>

#include "common/base/status.h"
#include "common/text/json.h"
#include "common/text/utf8.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace sinklora {
namespace {

static_assert(std::endian::native == std::endian::little,
              "GGUF data is little-endian and mapped as it is");

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMaxKeyBytes = 65535;  // of the format
// The least that one entry takes.
constexpr uint64_t kMinPairBytes = kLengthBytes + 1 + 4 + 1;
constexpr uint64_t kMinTensorBytes = kLengthBytes + 1 + 4 + 8 + 4 + 8;

constexpr uint32_t kArrayType = static_cast<uint32_t>(GgufValueType::kArray);
constexpr uint32_t kStringType = static_cast<uint32_t>(GgufValueType::kString);

std::string Quote(std::string_view name) {
  constexpr size_t kMaxShown = 100;
  return fmt::format("'{}'", PrintableExcerpt(name, kMaxShown));
}

// Why `name` cannot be a key or a tensor's name; empty when it can.
std::string NameDefect(std::string_view name, uint64_t max_bytes) {
  if (name.empty()) return "is empty";
  if (name.size() > max_bytes) {
    return fmt::format("has {} bytes, the limit is {}", name.size(), max_bytes);
  }
  if (FindInvalidUtf8(name) != std::string_view::npos) return "is not UTF-8";
  const bool control = std::any_of(name.begin(), name.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7F;
  });
  return control ? "has control characters" : "";
}

}  // namespace

// Walks over the file from front to back.
class GgufFile::Parser {
 public:
  Parser(std::string_view data, GgufFile* file) : data_(data), file_(file) {}

  absl::Status Run() {
    SL_RETURN_IF_ERROR(ReadHeader());
    for (uint64_t i = 0; i < num_pairs_; ++i) SL_RETURN_IF_ERROR(ReadPair(i));
    SL_RETURN_IF_ERROR(ReadAlignment());
    file_->tensors_.reserve(num_tensors_);
    for (uint64_t i = 0; i < num_tensors_; ++i) {
      SL_RETURN_IF_ERROR(ReadTensor(i));
    }
    return LocateData();
  }

 private:
  uint64_t remaining() const { return data_.size() - offset_; }

  template <typename T>
  bool Read(T* value) {
    if (remaining() < sizeof(T)) return false;
    std::memcpy(value, data_.data() + offset_, sizeof(T));
    offset_ += sizeof(T);
    return true;
  }
  bool ReadString(std::string_view* text) {
    uint64_t length = 0;
    if (!Read(&length) || length > remaining()) return false;
    *text = data_.substr(offset_, length);
    offset_ += length;
    return true;
  }

  absl::Status Defect(const std::string& defect) const {
    return absl::InvalidArgumentError(
        fmt::format("{}: {}", file_->what_, defect));
  }
  absl::Status Truncated(const std::string& where) const {
    return Defect(fmt::format("{} passes the end of the file of {} bytes",
                              where, data_.size()));
  }

  absl::Status ReadHeader();
  absl::Status ReadPair(uint64_t index);
  absl::Status ReadArray(const std::string& key, Value* value);
  absl::Status ReadAlignment();
  absl::Status ReadTensor(uint64_t index);
  absl::Status ReadShape(const std::string& label, GgufTensor* tensor);
  absl::Status LocateData();

  const std::string_view data_;
  GgufFile* const file_;
  uint64_t offset_ = 0;
  uint64_t num_pairs_ = 0;
  uint64_t num_tensors_ = 0;
  uint64_t alignment_ = kGgufAlignment;
  std::set<std::string_view> names_;
  std::vector<uint64_t> claimed_offsets_;  // by tensor
};

absl::Status GgufFile::Parser::ReadHeader() {
  if (!data_.starts_with(kGgufMagic)) {
    return Defect("is not GGUF: it does not start with 'GGUF'");
  }
  offset_ = kGgufMagic.size();
  uint32_t version = 0;
  if (!Read(&version)) return Truncated("the version");
  // Version 2 differs in nothing but that big-endian files exist in 3.
  if (version != 2 && version != kGgufVersion) {
    const bool swapped = version != 0 && (version & 0xFFFF) == 0;
    return Defect(fmt::format(
        "GGUF version {}{}, only little-endian 2 and {} "
        "are supported",
        version, swapped ? " (a big-endian file)" : "", kGgufVersion));
  }
  if (!Read(&num_tensors_) || !Read(&num_pairs_))
    return Truncated("the header");
  if (num_pairs_ > remaining() / kMinPairBytes) {
    return Defect(
        fmt::format("claims {} metadata pairs, a file of {} bytes "
                    "has room for {}",
                    num_pairs_, data_.size(), remaining() / kMinPairBytes));
  }
  if (num_tensors_ > remaining() / kMinTensorBytes) {
    return Defect(
        fmt::format("claims {} tensors, a file of {} bytes has room for {}",
                    num_tensors_, data_.size(), remaining() / kMinTensorBytes));
  }
  return absl::OkStatus();
}

absl::Status GgufFile::Parser::ReadPair(uint64_t index) {
  std::string_view key;
  Value value;
  if (!ReadString(&key)) return Truncated(fmt::format("key {}", index));
  const std::string defect = NameDefect(key, kMaxKeyBytes);
  if (!defect.empty()) return Defect(fmt::format("key {} {}", index, defect));
  const std::string label = "key " + Quote(key);
  if (!Read(&value.type)) return Truncated(label);
  if (value.type == kArrayType) {
    SL_RETURN_IF_ERROR(ReadArray(label, &value));
  } else if (value.type == kStringType) {
    if (!ReadString(&value.bytes)) return Truncated(label);
  } else {
    const uint64_t bytes = GgufScalarBytes(value.type);
    if (bytes == 0) {
      return Defect(fmt::format("{} has value type {}, must be in [0, 12]",
                                label, value.type));
    }
    if (bytes > remaining()) return Truncated(label);
    value.bytes = data_.substr(offset_, bytes);
    offset_ += bytes;
  }
  if (!file_->values_.emplace(std::string(key), value).second) {
    return Defect(label + " comes twice");
  }
  return absl::OkStatus();
}

absl::Status GgufFile::Parser::ReadArray(const std::string& label,
                                         Value* value) {
  if (!Read(&value->element_type) || !Read(&value->count)) {
    return Truncated(label);
  }
  const uint64_t begin = offset_;
  if (value->element_type == kStringType) {
    if (value->count > remaining() / kLengthBytes) {
      return Defect(
          fmt::format("{} claims {} strings, the rest of the file "
                      "has room for {}",
                      label, value->count, remaining() / kLengthBytes));
    }
    std::string_view text;
    for (uint64_t i = 0; i < value->count; ++i) {
      if (!ReadString(&text)) return Truncated(fmt::format("{}[{}]", label, i));
    }
  } else {
    const uint64_t bytes = GgufScalarBytes(value->element_type);
    if (bytes == 0) {
      return Defect(
          fmt::format("{} is an array of {}, must be of scalars or "
                      "strings",
                      label, GgufValueTypeName(value->element_type)));
    }
    if (value->count > remaining() / bytes) {
      return Defect(fmt::format(
          "{} claims {} elements of {}, the rest of the file has room for {}",
          label, value->count, GgufValueTypeName(value->element_type),
          remaining() / bytes));
    }
    offset_ += value->count * bytes;
  }
  value->bytes = data_.substr(begin, offset_ - begin);
  return absl::OkStatus();
}

absl::Status GgufFile::Parser::ReadAlignment() {
  constexpr int64_t kMaxAlignment = 1 << 30;
  SL_ASSIGN_OR_RETURN(const auto alignment,
                      file_->GetInt(kGgufAlignmentKey, kMaxAlignment));
  alignment_ = static_cast<uint64_t>(alignment.value_or(kGgufAlignment));
  if (!std::has_single_bit(alignment_)) {
    return Defect(fmt::format("key '{}' is {}, must be a power of two",
                              kGgufAlignmentKey, alignment_));
  }
  return absl::OkStatus();
}

absl::Status GgufFile::Parser::ReadTensor(uint64_t index) {
  std::string_view name;
  if (!ReadString(&name)) return Truncated(fmt::format("tensor {}", index));
  const std::string defect = NameDefect(name, kGgufMaxTensorName);
  if (!defect.empty()) {
    return Defect(fmt::format("the name of tensor {} {}", index, defect));
  }
  const std::string label = "tensor " + Quote(name);
  if (!names_.insert(name).second) return Defect(label + " comes twice");
  GgufTensor tensor;
  tensor.name = std::string(name);
  SL_RETURN_IF_ERROR(ReadShape(label, &tensor));
  uint32_t type = 0;
  uint64_t offset = 0;
  if (!Read(&type) || !Read(&offset)) return Truncated(label);
  const std::optional<GgmlType> known = ToGgmlType(type);
  if (!known) {
    return Defect(
        fmt::format("{} is of type {}, only F32, F16, BF16 and Q8_0 "
                    "are supported",
                    label, GgmlTypeName(type)));
  }
  tensor.type = *known;
  claimed_offsets_.push_back(offset);
  file_->tensors_.push_back(std::move(tensor));
  return absl::OkStatus();
}

absl::Status GgufFile::Parser::ReadShape(const std::string& label,
                                         GgufTensor* tensor) {
  uint32_t rank = 0;
  if (!Read(&rank)) return Truncated(label);
  if (rank == 0 || rank > kGgufMaxDimensions) {
    return Defect(fmt::format("{} has {} dimensions, must have 1 to {}", label,
                              rank, kGgufMaxDimensions));
  }
  for (uint32_t i = 0; i < rank; ++i) {
    uint64_t dim = 0;
    if (!Read(&dim)) return Truncated(label);
    if (dim == 0 || dim > std::numeric_limits<int64_t>::max()) {
      return Defect(
          fmt::format("{} has dimension {}, must be in [1, 2^63)", label, dim));
    }
    tensor->shape.insert(tensor->shape.begin(), static_cast<int64_t>(dim));
  }
  return absl::OkStatus();
}

absl::Status GgufFile::Parser::LocateData() {
  if (num_tensors_ == 0) return absl::OkStatus();
  const uint64_t begin = GgufAlign(offset_, alignment_);
  if (begin > data_.size()) return Truncated("the tensor data");
  const std::string_view data = data_.substr(begin);
  uint64_t expected = 0;  // ggml reads no other layout
  for (size_t i = 0; i < file_->tensors_.size(); ++i) {
    GgufTensor& tensor = file_->tensors_[i];
    const std::string label = "tensor " + Quote(tensor.name);
    const std::optional<uint64_t> bytes =
        GgufTensorBytes(tensor.type, tensor.shape);
    if (!bytes) {
      return Defect(fmt::format(
          "{} of type {} has shape [{}], which overflows or is no multiple of "
          "the block of {}",
          label, GgmlTypeName(tensor.type), fmt::join(tensor.shape, ", "),
          BlockOf(tensor.type).elements));
    }
    if (claimed_offsets_[i] != expected) {
      return Defect(
          fmt::format("{} is at offset {}, must be at {}, behind the "
                      "tensor before it",
                      label, claimed_offsets_[i], expected));
    }
    if (expected > data.size() || *bytes > data.size() - expected) {
      return Truncated(
          fmt::format("{} of {} bytes at offset {}", label, *bytes, expected));
    }
    tensor.bytes = data.substr(expected, *bytes);
    expected = GgufAlign(expected + *bytes, alignment_);
  }
  if (data.size() > expected) {
    return Defect(fmt::format("has {} bytes behind the last tensor",
                              data.size() - expected));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<GgufFile>> GgufFile::Open(
    const std::string& path) {
  SL_ASSIGN_OR_RETURN(auto mapped, MappedFile::Open(path));
  SL_ASSIGN_OR_RETURN(auto file, Parse(mapped->data(), path));
  file->file_ = std::move(mapped);
  return file;
}

absl::StatusOr<std::unique_ptr<GgufFile>> GgufFile::Parse(
    std::string_view data, const std::string& what) {
  std::unique_ptr<GgufFile> file(new GgufFile());
  file->what_ = what;
  SL_RETURN_IF_ERROR(Parser(data, file.get()).Run());
  return file;
}

}  // namespace sinklora
