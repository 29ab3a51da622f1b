// SPDX-License-Identifier: Apache-2.0
#include "common/gguf/gguf_writer.h"

#include <optional>
#include <utility>

#include "common/base/status.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace sinklora {
namespace {

template <typename T>
void Put(T value, std::string* out) {
  out->append(reinterpret_cast<const char*>(&value), sizeof(T));
}

void PutString(std::string_view text, std::string* out) {
  Put(static_cast<uint64_t>(text.size()), out);
  out->append(text);
}

}  // namespace

void GgufHeader::AddKey(const std::string& key, GgufValueType type) {
  PutString(key, &pairs_);
  Put(static_cast<uint32_t>(type), &pairs_);
  ++num_pairs_;
}

void GgufHeader::AddArray(const std::string& key, GgufValueType type,
                          uint64_t count) {
  AddKey(key, GgufValueType::kArray);
  Put(static_cast<uint32_t>(type), &pairs_);
  Put(count, &pairs_);
}

void GgufHeader::AddUint32(const std::string& key, uint32_t value) {
  AddKey(key, GgufValueType::kUint32);
  Put(value, &pairs_);
}

void GgufHeader::AddFloat(const std::string& key, float value) {
  AddKey(key, GgufValueType::kFloat32);
  Put(value, &pairs_);
}

void GgufHeader::AddBool(const std::string& key, bool value) {
  AddKey(key, GgufValueType::kBool);
  Put(static_cast<uint8_t>(value), &pairs_);
}

void GgufHeader::AddString(const std::string& key, std::string_view value) {
  AddKey(key, GgufValueType::kString);
  PutString(value, &pairs_);
}

void GgufHeader::AddStrings(const std::string& key,
                            const std::vector<std::string>& values) {
  AddArray(key, GgufValueType::kString, values.size());
  for (const std::string& value : values) PutString(value, &pairs_);
}

void GgufHeader::AddFloats(const std::string& key,
                           const std::vector<float>& values) {
  AddArray(key, GgufValueType::kFloat32, values.size());
  for (const float value : values) Put(value, &pairs_);
}

void GgufHeader::AddInt32s(const std::string& key,
                           const std::vector<int32_t>& values) {
  AddArray(key, GgufValueType::kInt32, values.size());
  for (const int32_t value : values) Put(value, &pairs_);
}

absl::Status GgufHeader::AddTensor(const std::string& name, GgmlType type,
                                   const std::vector<int64_t>& shape) {
  const std::optional<uint64_t> bytes = GgufTensorBytes(type, shape);
  if (!bytes || shape.size() > kGgufMaxDimensions) {
    return absl::InvalidArgumentError(fmt::format(
        "tensor '{}' of shape [{}] cannot be {}: it must have 1 to {} "
        "dimensions, the last a multiple of {}",
        name, fmt::join(shape, ", "), GgmlTypeName(type), kGgufMaxDimensions,
        BlockOf(type).elements));
  }
  if (name.empty() || name.size() > kGgufMaxTensorName) {
    return absl::InvalidArgumentError(
        fmt::format("tensor '{}' has a name of {} bytes, must have 1 to {}",
                    name, name.size(), kGgufMaxTensorName));
  }
  if (!names_.insert(name).second) {
    return absl::InvalidArgumentError(
        fmt::format("tensor '{}' comes twice", name));
  }
  PutString(name, &infos_);
  Put(static_cast<uint32_t>(shape.size()), &infos_);
  for (size_t i = shape.size(); i-- > 0;) {
    Put(static_cast<uint64_t>(shape[i]), &infos_);
  }
  Put(static_cast<uint32_t>(type), &infos_);
  Put(data_bytes_, &infos_);
  tensors_.push_back({name, *bytes});
  data_bytes_ = GgufAlign(data_bytes_ + *bytes, kGgufAlignment);
  return absl::OkStatus();
}

std::string GgufHeader::Serialize() const {
  std::string out(kGgufMagic);
  Put(kGgufVersion, &out);
  Put(static_cast<uint64_t>(tensors_.size()), &out);
  Put(num_pairs_, &out);
  out += pairs_;
  out += infos_;
  out.resize(GgufAlign(out.size(), kGgufAlignment), '\0');
  return out;
}

absl::StatusOr<std::unique_ptr<GgufWriter>> GgufWriter::Create(
    const std::string& path, GgufHeader header) {
  std::unique_ptr<GgufWriter> writer(new GgufWriter());
  writer->header_ = std::move(header);
  SL_ASSIGN_OR_RETURN(writer->file_, FileWriter::Create(path));
  SL_RETURN_IF_ERROR(writer->file_->Append(writer->header_.Serialize()));
  return writer;
}

absl::Status GgufWriter::Append(std::string_view name, std::string_view bytes) {
  const bool is_turn = current_ < header_.tensors_.size() &&
                       header_.tensors_[current_].name == name;
  if (!is_turn || bytes.size() > header_.tensors_[current_].bytes - written_) {
    return absl::InternalError(fmt::format(
        "{} bytes of tensor '{}' were not expected here", bytes.size(), name));
  }
  SL_RETURN_IF_ERROR(file_->Append(bytes));
  written_ += bytes.size();
  if (written_ < header_.tensors_[current_].bytes) return absl::OkStatus();
  const uint64_t padding = GgufAlign(written_, kGgufAlignment) - written_;
  ++current_;
  written_ = 0;
  return file_->Append(std::string(padding, '\0'));
}

absl::Status GgufWriter::Finish() {
  if (current_ < header_.tensors_.size()) {
    return absl::InternalError(fmt::format(
        "tensor '{}' has {} of {} bytes", header_.tensors_[current_].name,
        written_, header_.tensors_[current_].bytes));
  }
  return file_->Finish();
}

}  // namespace sinklora
