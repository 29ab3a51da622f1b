// SPDX-License-Identifier: Apache-2.0
#include "common/weights/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "common/base/status.h"
#include "common/text/json.h"
#include "common/weights/file_dtype.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

using nlohmann::json;

static_assert(std::endian::native == std::endian::little,
              "safetensors data is little-endian and mapped as it is");

constexpr int64_t kMaxInt64 = std::numeric_limits<int64_t>::max();
constexpr uint64_t kLengthBytes = 8;
// The limit of the reference implementation.
constexpr uint64_t kMaxHeaderBytes = 100'000'000;

absl::Status Defect(const std::string& path, const std::string& defect) {
  return absl::InvalidArgumentError(fmt::format("{}: {}", path, defect));
}

// Names other things that are often found under this file name.
absl::Status CheckMagic(const std::string& path, std::string_view data) {
  if (data.starts_with("PK\x03\x04") || data.starts_with("\x80\x02")) {
    return Defect(path,
                  "is a torch pickle, not safetensors; convert it with "
                  "safetensors' own tools");
  }
  if (data.starts_with("GGUF")) return Defect(path, "is GGUF, not safetensors");
  if (data.starts_with("version https://git-lfs")) {
    return Defect(path, "is a Git LFS pointer, not the file itself");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string_view> HeaderOf(const std::string& path,
                                          std::string_view data) {
  SL_RETURN_IF_ERROR(CheckMagic(path, data));
  if (data.size() < kLengthBytes) {
    return Defect(path, fmt::format("has {} bytes, a header length needs {}",
                                    data.size(), kLengthBytes));
  }
  uint64_t length = 0;
  std::memcpy(&length, data.data(), kLengthBytes);
  if (length > data.size() - kLengthBytes) {
    return Defect(path,
                  fmt::format("header length {} is beyond the file of {} bytes",
                              length, data.size()));
  }
  if (length > kMaxHeaderBytes) {
    return Defect(path, fmt::format("header length {} is over the limit of {}",
                                    length, kMaxHeaderBytes));
  }
  return data.substr(kLengthBytes, length);
}

// One tensor of the header with its place in the data.
struct Entry {
  std::string name;
  FileDType dtype;
  std::vector<int64_t> shape;
  uint64_t begin = 0;
  uint64_t end = 0;
};

absl::StatusOr<std::vector<int64_t>> ParseShape(const json& value,
                                                const std::string& what,
                                                uint64_t* elements) {
  if (!value.is_array()) {
    return Defect(
        what, fmt::format("shape is {}, must be a list", JsonExcerpt(value)));
  }
  std::vector<int64_t> shape;
  bool overflow = false;
  *elements = 1;
  for (const json& dim : value) {
    if (!dim.is_number_unsigned() ||
        dim.get<uint64_t>() > static_cast<uint64_t>(kMaxInt64)) {
      return Defect(what, fmt::format("shape {} has a bad dimension",
                                      JsonExcerpt(value)));
    }
    const uint64_t size = dim.get<uint64_t>();
    // Signed like num_elements(), which multiplies in the same order.
    overflow |= __builtin_mul_overflow(*elements, size, elements) ||
                *elements > static_cast<uint64_t>(kMaxInt64);
    shape.push_back(static_cast<int64_t>(size));
  }
  if (overflow) {
    return Defect(what, fmt::format("shape {} overflows", JsonExcerpt(value)));
  }
  return shape;
}

absl::StatusOr<Entry> ParseEntry(const std::string& path,
                                 const std::string& name, const json& value,
                                 uint64_t data_bytes) {
  const std::string what = fmt::format("{}: tensor '{}'", path, name);
  if (!value.is_object()) {
    return Defect(what,
                  fmt::format("is {}, must be an object", JsonExcerpt(value)));
  }
  Entry entry;
  entry.name = name;
  SL_ASSIGN_OR_RETURN(const auto dtype, GetString(value, "dtype", what));
  const std::optional<FileDType> known = ParseFileDType(dtype.value_or(""));
  if (!known) {
    return Defect(what, fmt::format("unknown dtype '{}'", dtype.value_or("")));
  }
  entry.dtype = *known;
  uint64_t elements = 0;
  SL_ASSIGN_OR_RETURN(
      entry.shape, ParseShape(value.value("shape", json()), what, &elements));
  const json offsets = value.value("data_offsets", json());
  if (!offsets.is_array() || offsets.size() != 2 ||
      !offsets[0].is_number_unsigned() || !offsets[1].is_number_unsigned()) {
    return Defect(what, fmt::format("data_offsets is {}, must be two offsets",
                                    JsonExcerpt(offsets)));
  }
  entry.begin = offsets[0].get<uint64_t>();
  entry.end = offsets[1].get<uint64_t>();
  if (entry.begin > entry.end || entry.end > data_bytes) {
    return Defect(what, fmt::format("data_offsets [{}, {}) pass the end of the "
                                    "data of {} bytes",
                                    entry.begin, entry.end, data_bytes));
  }
  uint64_t bytes = 0;
  if (__builtin_mul_overflow(elements, FileDTypeBytes(entry.dtype), &bytes) ||
      bytes != entry.end - entry.begin) {
    return Defect(what, fmt::format("shape {} of {} does not fill its {} bytes",
                                    JsonExcerpt(value["shape"]), *dtype,
                                    entry.end - entry.begin));
  }
  return entry;
}

// The tensors must cover the data exactly, so that no byte is hidden or shared.
absl::Status CheckCoverage(const std::string& path, std::vector<Entry> entries,
                           uint64_t data_bytes) {
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  uint64_t covered = 0;
  for (const Entry& entry : entries) {
    if (entry.begin < covered) {
      return Defect(path, fmt::format("tensor '{}' at offset {} overlaps the "
                                      "one before, which ends at {}",
                                      entry.name, entry.begin, covered));
    }
    if (entry.begin > covered) {
      return Defect(
          path, fmt::format("hole of {} bytes before tensor '{}' at "
                            "offset {}",
                            entry.begin - covered, entry.name, entry.begin));
    }
    covered = entry.end;
  }
  if (covered != data_bytes) {
    return Defect(path, fmt::format("hole of {} bytes behind the last tensor",
                                    data_bytes - covered));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::map<std::string, std::string>> ParseMetadata(
    const std::string& path, const json& value) {
  std::map<std::string, std::string> metadata;
  bool ok = value.is_object();
  for (auto it = value.begin(); ok && it != value.end(); ++it) {
    ok = it->is_string();
    if (ok) metadata[it.key()] = it->get<std::string>();
  }
  if (!ok) {
    return Defect(path, fmt::format("__metadata__ is {}, must map strings to "
                                    "strings",
                                    JsonExcerpt(value)));
  }
  return metadata;
}

// The 8 length bytes and the header, padded with spaces.
absl::StatusOr<std::string> MakePreamble(
    const std::string& path, const std::map<std::string, StoredTensor>& tensors,
    const std::map<std::string, std::string>& metadata) {
  constexpr uint64_t kAlignment = 64;
  json header = json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  uint64_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    const uint64_t expected = static_cast<uint64_t>(tensor.num_elements()) *
                              FileDTypeBytes(tensor.dtype);
    if (name == "__metadata__" || tensor.bytes.size() != expected) {
      return absl::InvalidArgumentError(
          fmt::format("{}: tensor '{}' has {} bytes, its shape needs {}", path,
                      name, tensor.bytes.size(), expected));
    }
    const uint64_t end = offset + expected;
    header[name] = {{"dtype", FileDTypeName(tensor.dtype)},
                    {"shape", tensor.shape},
                    {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text =
      header.dump(-1, ' ', false, json::error_handler_t::replace);
  const uint64_t used = (kLengthBytes + text.size()) % kAlignment;
  if (used != 0) text.append(kAlignment - used, ' ');
  const uint64_t length = text.size();
  std::string preamble(kLengthBytes, '\0');
  std::memcpy(preamble.data(), &length, kLengthBytes);
  return preamble + text;
}

}  // namespace

int64_t StoredTensor::num_elements() const {
  int64_t n = 1;
  for (int64_t dim : shape) n *= dim;
  return n;
}

absl::StatusOr<std::unique_ptr<SafetensorsFile>> SafetensorsFile::Open(
    const std::string& path) {
  std::unique_ptr<SafetensorsFile> file(new SafetensorsFile());
  SL_ASSIGN_OR_RETURN(file->file_, MappedFile::Open(path));
  const std::string_view all = file->file_->data();
  SL_ASSIGN_OR_RETURN(const std::string_view header_text, HeaderOf(path, all));
  const std::string_view data = all.substr(kLengthBytes + header_text.size());
  SL_ASSIGN_OR_RETURN(const json header,
                      ParseJsonObject(header_text, path + ": header"));
  std::vector<Entry> entries;
  for (auto it = header.begin(); it != header.end(); ++it) {
    if (it.key() == "__metadata__") {
      SL_ASSIGN_OR_RETURN(file->metadata_, ParseMetadata(path, *it));
      continue;
    }
    SL_ASSIGN_OR_RETURN(Entry entry,
                        ParseEntry(path, it.key(), *it, data.size()));
    entries.push_back(std::move(entry));
  }
  SL_RETURN_IF_ERROR(CheckCoverage(path, entries, data.size()));
  for (Entry& entry : entries) {
    file->tensors_[entry.name] = {
        entry.dtype, std::move(entry.shape),
        data.substr(entry.begin, entry.end - entry.begin)};
  }
  return file;
}

absl::Status WriteSafetensors(
    const std::string& path, const std::map<std::string, StoredTensor>& tensors,
    const std::map<std::string, std::string>& metadata) {
  SL_ASSIGN_OR_RETURN(const std::string preamble,
                      MakePreamble(path, tensors, metadata));
  SL_ASSIGN_OR_RETURN(const auto writer, FileWriter::Create(path));
  SL_RETURN_IF_ERROR(writer->Append(preamble));
  for (const auto& [name, tensor] : tensors) {
    SL_RETURN_IF_ERROR(writer->Append(tensor.bytes));
  }
  return writer->Finish();
}

}  // namespace sinklora
