// ParseSafetensors: the header is read as a stream of JSON events against the
// one shape it may have, so that a hostile one costs no memory and no nesting.
//
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "common/base/status.h"
#include "common/text/json.h"
#include "common/weights/safetensors.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

using nlohmann::json;

static_assert(std::endian::native == std::endian::little,
              "safetensors data is little-endian and mapped as it is");

constexpr uint64_t kLengthBytes = 8;
constexpr size_t kMaxNumberShown = 40;
constexpr char kMetadataKey[] = "__metadata__";

absl::Status Defect(const std::string& what, const std::string& defect) {
  return absl::InvalidArgumentError(fmt::format("{}: {}", what, defect));
}

// Other things that are often found under this file name.
absl::Status OtherFormat(const std::string& what, std::string_view file) {
  if (IsTorchPickle(file)) return TorchPickleError(what);
  if (file.starts_with("GGUF")) return Defect(what, "is GGUF, not safetensors");
  if (file.starts_with("version https://git-lfs")) {
    return Defect(what, "is a Git LFS pointer, not the file itself");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string_view> HeaderOf(const std::string& what,
                                          std::string_view file) {
  uint64_t length = 0;
  if (file.size() >= kLengthBytes) {
    std::memcpy(&length, file.data(), kLengthBytes);
  }
  const bool fits = file.size() >= kLengthBytes && length > 0 &&
                    length <= kMaxSafetensorsHeaderBytes &&
                    length <= file.size() - kLengthBytes;
  // The length's own bytes may look like another format's magic, so a file
  // that can be safetensors is.
  if (fits && file[kLengthBytes] == '{') {
    return file.substr(kLengthBytes, length);
  }
  SL_RETURN_IF_ERROR(OtherFormat(what, file));
  if (file.size() < kLengthBytes) {
    return Defect(what, fmt::format("has {} bytes, a header length needs {}",
                                    file.size(), kLengthBytes));
  }
  if (length > kMaxSafetensorsHeaderBytes) {
    return Defect(what, fmt::format("header length {} is over the limit of {}",
                                    length, kMaxSafetensorsHeaderBytes));
  }
  if (length > file.size() - kLengthBytes) {
    return Defect(what,
                  fmt::format("header length {} is beyond the file of {} bytes",
                              length, file.size()));
  }
  return Defect(what, "the header does not start with '{'");
}

// One tensor of the header with its place in the data.
struct Entry {
  std::optional<FileDType> dtype;
  std::optional<std::vector<int64_t>> shape;
  std::optional<std::vector<uint64_t>> offsets;
};

// Handler of the parser's events. Each returns false to stop, with the reason
// in status().
class HeaderReader : public nlohmann::json_sax<json> {
 public:
  HeaderReader(const std::string& what, std::string_view data,
               SafetensorsContent* content)
      : what_(what), data_(data), content_(content) {}

  const absl::Status& status() const { return status_; }

  bool null() override { return Unexpected("null"); }
  bool boolean(bool value) override {
    return Unexpected(value ? "true" : "false");
  }
  bool number_integer(number_integer_t value) override {
    return Unexpected(fmt::format("{}", value));
  }
  bool number_float(number_float_t, const string_t& text) override {
    return Unexpected(text.substr(0, kMaxNumberShown));
  }
  bool binary(binary_t&) override { return Unexpected("binary"); }

  bool number_unsigned(number_unsigned_t value) override {
    const auto size = static_cast<int64_t>(value);
    if (place_ == Place::kShape && size >= 0) {
      if (entry_.shape->size() == kMaxSafetensorsRank) {
        return Fail(fmt::format("{}: shape has more than {} dimensions",
                                Label(), kMaxSafetensorsRank));
      }
      entry_.shape->push_back(size);
      return true;
    }
    if (place_ == Place::kOffsets && entry_.offsets->size() < 2) {
      entry_.offsets->push_back(value);
      return true;
    }
    return Unexpected(fmt::format("{}", value));
  }

  bool string(string_t& value) override {
    if (place_ == Place::kMetadata) {
      content_->metadata[key_] = std::move(value);
      return true;
    }
    if (place_ != Place::kDType) return Unexpected(JsonExcerpt(value));
    entry_.dtype = ParseFileDType(value);
    if (!entry_.dtype) {
      return Fail(fmt::format("{}: dtype {} is not one of {}", Label(),
                              JsonExcerpt(value), AllFileDTypes()));
    }
    place_ = Place::kTensor;
    return true;
  }

  bool start_object(size_t) override {
    switch (place_) {
      case Place::kBegin:
        place_ = Place::kTop;
        return true;
      case Place::kMetadataBegin:
        place_ = Place::kMetadata;
        return true;
      case Place::kTensorBegin:
        place_ = Place::kTensor;
        return true;
      default:
        return Unexpected("an object");
    }
  }

  bool key(string_t& value) override {
    switch (place_) {
      case Place::kTop:
        return TopKey(std::move(value));
      case Place::kMetadata:
        if (content_->metadata.size() == kMaxSafetensorsEntries) {
          return Fail(fmt::format("__metadata__ has more than {} keys",
                                  kMaxSafetensorsEntries));
        }
        key_ = std::move(value);
        return !content_->metadata.contains(key_) || Duplicate(key_);
      default:
        return FieldKey(value);
    }
  }

  bool end_object() override {
    if (place_ == Place::kTensor && !FinishTensor()) return false;
    place_ = Place::kTop;
    return true;
  }

  bool start_array(size_t) override {
    if (place_ == Place::kShapeBegin) {
      entry_.shape.emplace();
      place_ = Place::kShape;
      return true;
    }
    if (place_ == Place::kOffsetsBegin) {
      entry_.offsets.emplace();
      place_ = Place::kOffsets;
      return true;
    }
    return Unexpected("a list");
  }

  bool end_array() override {
    if (place_ == Place::kOffsets && entry_.offsets->size() != 2) {
      return Unexpected(fmt::format("a list of {}", entry_.offsets->size()));
    }
    place_ = Place::kTensor;
    return true;
  }

  bool parse_error(size_t, const std::string&,
                   const nlohmann::detail::exception& error) override {
    return Fail(fmt::format("header: not valid JSON: {}",
                            PrintableExcerpt(error.what(), 300)));
  }

 private:
  // Where the next event belongs. The "Begin" places wait for a value.
  enum class Place {
    kBegin,
    kTop,
    kMetadataBegin,
    kMetadata,
    kTensorBegin,
    kTensor,
    kDType,
    kShapeBegin,
    kShape,
    kOffsetsBegin,
    kOffsets,
  };

  bool Fail(const std::string& defect) {
    if (status_.ok()) status_ = Defect(what_, defect);
    return false;
  }
  std::string Label() const { return TensorLabel(name_); }
  bool Duplicate(const std::string& key) {
    return Fail(fmt::format("header: duplicate key {}", JsonExcerpt(key)));
  }

  // Says what stands where something else must.
  bool Unexpected(const std::string& found) {
    switch (place_) {
      case Place::kMetadataBegin:
        return Fail(
            fmt::format("__metadata__ is {}, must map strings to "
                        "strings",
                        found));
      case Place::kMetadata:
        return Fail(fmt::format("__metadata__ {} is {}, must be a string",
                                JsonExcerpt(key_), found));
      case Place::kTensorBegin:
        return Fail(fmt::format("{} is {}, must be an object", Label(), found));
      case Place::kDType:
        return Fail(
            fmt::format("{}: dtype is {}, must be a string", Label(), found));
      case Place::kShapeBegin:
        return Fail(
            fmt::format("{}: shape is {}, must be a list", Label(), found));
      case Place::kShape:
        return Fail(
            fmt::format("{}: shape has {}, must have whole numbers up "
                        "to 2^63 - 1",
                        Label(), found));
      default:
        return Fail(
            fmt::format("{}: data_offsets is or has {}, must be two "
                        "offsets",
                        Label(), found));
    }
  }

  bool TopKey(std::string value) {
    if (value == kMetadataKey) {
      if (std::exchange(has_metadata_, true)) return Duplicate(value);
      place_ = Place::kMetadataBegin;
      return true;
    }
    if (content_->tensors.contains(value)) return Duplicate(value);
    if (content_->tensors.size() == kMaxSafetensorsEntries) {
      return Fail(
          fmt::format("has more than {} tensors", kMaxSafetensorsEntries));
    }
    name_ = std::move(value);
    entry_ = Entry();
    place_ = Place::kTensorBegin;
    return true;
  }

  bool FieldKey(const std::string& value) {
    if (value == "dtype") {
      place_ = Place::kDType;
      return !entry_.dtype || Duplicate(value);
    }
    if (value == "shape") {
      place_ = Place::kShapeBegin;
      return !entry_.shape || Duplicate(value);
    }
    if (value == "data_offsets") {
      place_ = Place::kOffsetsBegin;
      return !entry_.offsets || Duplicate(value);
    }
    return Fail(fmt::format("{}: key {} is not dtype, shape or data_offsets",
                            Label(), JsonExcerpt(value)));
  }

  bool FinishTensor() {
    for (const auto& [field, present] :
         {std::pair("dtype", entry_.dtype.has_value()),
          std::pair("shape", entry_.shape.has_value()),
          std::pair("data_offsets", entry_.offsets.has_value())}) {
      if (!present) {
        return Fail(fmt::format("{}: {} is missing", Label(), field));
      }
    }
    const uint64_t begin = entry_.offsets->front();
    const uint64_t end = entry_.offsets->back();
    if (begin > end || end > data_.size()) {
      return Fail(
          fmt::format("{}: data_offsets [{}, {}) pass the end of the "
                      "data of {} bytes",
                      Label(), begin, end, data_.size()));
    }
    const std::optional<uint64_t> bytes =
        StoredBytes(*entry_.dtype, *entry_.shape);
    if (bytes != end - begin) {
      const std::string shape = ShapeToString(*entry_.shape);
      const std::string dtype = FileDTypeName(*entry_.dtype);
      if (!bytes) {
        return Fail(
            fmt::format("{}: shape {} of {} has no whole number of "
                        "bytes up to 2^63 - 1",
                        Label(), shape, dtype));
      }
      return Fail(
          fmt::format("{}: shape {} of {} needs {} bytes, data_offsets [{}, "
                      "{}) have {}",
                      Label(), shape, dtype, *bytes, begin, end, end - begin));
    }
    content_->tensors[name_] = {*entry_.dtype, *std::move(entry_.shape),
                                data_.substr(begin, end - begin)};
    return true;
  }

  const std::string& what_;
  const std::string_view data_;
  SafetensorsContent* const content_;
  absl::Status status_;
  Place place_ = Place::kBegin;
  bool has_metadata_ = false;
  std::string key_;   // of the metadata
  std::string name_;  // of the tensor that entry_ describes
  Entry entry_;
};

// The tensors must cover the data exactly, so that no byte is hidden or shared.
absl::Status CheckCoverage(const std::string& what, std::string_view data,
                           const SafetensorsContent& content) {
  struct Range {
    size_t begin, end;
    const std::string* name;
  };
  std::vector<Range> ranges;
  ranges.reserve(content.tensors.size());
  for (const auto& [name, tensor] : content.tensors) {
    const size_t begin = tensor.bytes.data() - data.data();
    ranges.push_back({begin, begin + tensor.bytes.size(), &name});
  }
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  size_t covered = 0;
  for (const Range& range : ranges) {
    if (range.begin < covered) {
      return Defect(
          what, fmt::format("{} at offset {} overlaps the one before, which "
                            "ends at {}",
                            TensorLabel(*range.name), range.begin, covered));
    }
    if (range.begin > covered) {
      return Defect(what, fmt::format("hole of {} bytes before {} at offset {}",
                                      range.begin - covered,
                                      TensorLabel(*range.name), range.begin));
    }
    covered = range.end;
  }
  if (covered != data.size()) {
    return Defect(what, fmt::format("hole of {} bytes behind the last tensor",
                                    data.size() - covered));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SafetensorsContent> ParseSafetensors(std::string_view file,
                                                    const std::string& what) {
  SL_ASSIGN_OR_RETURN(const std::string_view header, HeaderOf(what, file));
  // The JSON parser takes a NUL for the end of its input.
  if (header.find('\0') != std::string_view::npos) {
    return Defect(what, "header: not valid JSON: has a NUL byte");
  }
  const std::string_view data = file.substr(kLengthBytes + header.size());
  SafetensorsContent content;
  HeaderReader reader(what, data, &content);
  if (!json::sax_parse(header.begin(), header.end(), &reader)) {
    return reader.status();
  }
  SL_RETURN_IF_ERROR(CheckCoverage(what, data, content));
  return content;
}

}  // namespace sinklora
