// SPDX-License-Identifier: Apache-2.0
#include "common/weights/safetensors_writer.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <set>
#include <utility>

#include "common/base/status.h"
#include "common/weights/safetensors.h"
#include "common/weights/weight_index.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "nlohmann/json.hpp"

namespace sinklora {
namespace {

using nlohmann::json;

absl::Status Refuse(const std::string& path, const std::string& defect) {
  return absl::InvalidArgumentError(fmt::format("{}: {}", path, defect));
}

// As a JSON string with its quotes; nullopt when it is not UTF-8, which JSON
// cannot hold.
std::optional<std::string> Quoted(const std::string& text) {
  try {
    return json(text).dump();
  } catch (const json::exception&) {
    return std::nullopt;
  }
}

// Wider types first, then by name: the reference implementation's order.
void SortForFile(std::vector<TensorSpec>::iterator begin,
                 std::vector<TensorSpec>::iterator end) {
  std::sort(begin, end, [](const TensorSpec& a, const TensorSpec& b) {
    if (a.dtype != b.dtype) return a.dtype > b.dtype;
    return a.name < b.name;
  });
}

absl::StatusOr<uint64_t> BytesOf(const std::string& path,
                                 const TensorSpec& spec) {
  const auto bytes = StoredBytes(spec.dtype, spec.shape);
  if (!bytes) {
    return Refuse(path,
                  fmt::format("{}: shape {} of {} has no size in bytes",
                              TensorLabel(spec.name), ShapeToString(spec.shape),
                              FileDTypeName(spec.dtype)));
  }
  return *bytes;
}

absl::Status CheckSpecs(const std::string& path,
                        const std::vector<TensorSpec>& tensors) {
  std::set<std::string_view> names;
  for (const TensorSpec& spec : tensors) {
    if (spec.name == "__metadata__" || !Quoted(spec.name)) {
      return Refuse(path, fmt::format("{}: the name is reserved or not UTF-8",
                                      TensorLabel(spec.name)));
    }
    if (spec.shape.size() > kMaxSafetensorsRank) {
      return Refuse(path, fmt::format("{} has {} dimensions, the limit is {}",
                                      TensorLabel(spec.name), spec.shape.size(),
                                      kMaxSafetensorsRank));
    }
    if (!names.insert(spec.name).second) {
      return Refuse(
          path, fmt::format("{} is declared twice", TensorLabel(spec.name)));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> MetadataText(
    const std::string& path,
    const std::map<std::string, std::string>& metadata) {
  std::vector<std::string> pairs;
  for (const auto& [key, value] : metadata) {
    const auto quoted_key = Quoted(key), quoted_value = Quoted(value);
    if (!quoted_key || !quoted_value) {
      return Refuse(
          path, fmt::format("metadata {} is not UTF-8",
                            json(key).dump(-1, ' ', true,
                                           json::error_handler_t::replace)));
    }
    pairs.push_back(*quoted_key + ":" + *quoted_value);
  }
  return fmt::format("\"__metadata__\":{{{}}}", fmt::join(pairs, ","));
}

// The 8 length bytes and the header, padded with spaces.
absl::StatusOr<std::string> MakePreamble(
    const std::string& path, const std::vector<TensorSpec>& tensors,
    const std::vector<uint64_t>& bytes,
    const std::map<std::string, std::string>& metadata) {
  constexpr uint64_t kAlignment = 8;
  std::vector<std::string> fields;
  if (!metadata.empty()) {
    SL_ASSIGN_OR_RETURN(fields.emplace_back(), MetadataText(path, metadata));
  }
  uint64_t offset = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    uint64_t end = 0;
    if (__builtin_add_overflow(offset, bytes[i], &end)) {
      return Refuse(path, "the tensors have more than 2^64 bytes");
    }
    fields.push_back(fmt::format(
        "{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}",
        *Quoted(tensors[i].name), FileDTypeName(tensors[i].dtype),
        fmt::join(tensors[i].shape, ","), offset, end));
    offset = end;
  }
  std::string preamble(sizeof(uint64_t), '\0');
  preamble += fmt::format("{{{}}}", fmt::join(fields, ","));
  const size_t used = preamble.size() % kAlignment;
  if (used != 0) preamble.append(kAlignment - used, ' ');
  const uint64_t length = preamble.size() - sizeof(uint64_t);
  std::memcpy(preamble.data(), &length, sizeof length);
  if (length > kMaxSafetensorsHeaderBytes ||
      std::max(tensors.size(), metadata.size()) > kMaxSafetensorsEntries) {
    return Refuse(
        path, fmt::format("{} tensors and {} metadata keys in {} "
                          "bytes of header, the limits are {} and {}",
                          tensors.size(), metadata.size(), length,
                          kMaxSafetensorsEntries, kMaxSafetensorsHeaderBytes));
  }
  return preamble;
}

std::string ShardName(size_t shard, size_t count) {
  if (count == 1) return kSingleWeightsFile;
  return fmt::format("model-{:05}-of-{:05}.safetensors", shard + 1, count);
}

}  // namespace

absl::StatusOr<std::unique_ptr<SafetensorsWriter>> SafetensorsWriter::Create(
    const std::string& path, std::vector<TensorSpec> tensors,
    const std::map<std::string, std::string>& metadata) {
  SL_RETURN_IF_ERROR(CheckSpecs(path, tensors));
  std::unique_ptr<SafetensorsWriter> writer(new SafetensorsWriter());
  writer->path_ = path;
  writer->tensors_ = std::move(tensors);
  SortForFile(writer->tensors_.begin(), writer->tensors_.end());
  for (const TensorSpec& spec : writer->tensors_) {
    SL_ASSIGN_OR_RETURN(writer->bytes_.emplace_back(), BytesOf(path, spec));
  }
  SL_ASSIGN_OR_RETURN(
      const std::string preamble,
      MakePreamble(path, writer->tensors_, writer->bytes_, metadata));
  SL_ASSIGN_OR_RETURN(writer->file_, FileWriter::Create(path));
  SL_RETURN_IF_ERROR(writer->file_->Append(preamble));
  writer->Advance();
  return writer;
}

absl::Status SafetensorsWriter::Append(std::string_view name,
                                       std::string_view bytes) {
  if (bytes.empty()) return absl::OkStatus();
  if (complete() || tensors_[current_].name != name) {
    return Refuse(
        path_,
        fmt::format("{} gets bytes, but {}", TensorLabel(name),
                    complete() ? "every tensor has its own"
                               : "it is the turn of " +
                                     TensorLabel(tensors_[current_].name)));
  }
  if (bytes.size() > bytes_[current_] - written_) {
    return Refuse(path_, fmt::format("{} gets {} bytes, its shape {} needs {}",
                                     TensorLabel(name), written_ + bytes.size(),
                                     ShapeToString(tensors_[current_].shape),
                                     bytes_[current_]));
  }
  SL_RETURN_IF_ERROR(file_->Append(bytes));
  written_ += bytes.size();
  Advance();
  return absl::OkStatus();
}

void SafetensorsWriter::Advance() {
  while (!complete() && written_ == bytes_[current_]) {
    ++current_;
    written_ = 0;
  }
}

absl::Status SafetensorsWriter::Finish() {
  if (!complete()) {
    return Refuse(
        path_,
        fmt::format("{} has {} bytes, its shape {} needs {}",
                    TensorLabel(tensors_[current_].name), written_,
                    ShapeToString(tensors_[current_].shape), bytes_[current_]));
  }
  return file_->Finish();
}

absl::StatusOr<std::unique_ptr<ModelWeightsWriter>> ModelWeightsWriter::Create(
    const std::string& directory, std::vector<TensorSpec> tensors,
    const std::map<std::string, std::string>& metadata,
    uint64_t max_shard_bytes) {
  SL_RETURN_IF_ERROR(CheckSpecs(directory, tensors));
  std::unique_ptr<ModelWeightsWriter> writer(new ModelWeightsWriter());
  writer->directory_ = directory;
  writer->metadata_ = metadata;
  uint64_t shard_bytes = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    SL_ASSIGN_OR_RETURN(const uint64_t bytes, BytesOf(directory, tensors[i]));
    const bool fits =
        bytes <= max_shard_bytes && shard_bytes <= max_shard_bytes - bytes;
    if (shard_bytes > 0 && !fits) {
      writer->shard_ends_.push_back(i);
      shard_bytes = 0;
    }
    shard_bytes += bytes;
    if (__builtin_add_overflow(writer->total_bytes_, bytes,
                               &writer->total_bytes_)) {
      return Refuse(directory, "the tensors have more than 2^64 bytes");
    }
  }
  writer->shard_ends_.push_back(tensors.size());
  const size_t shards = writer->shard_ends_.size();
  size_t begin = 0;
  for (size_t i = 0; i < shards; ++i) {
    SortForFile(tensors.begin() + begin,
                tensors.begin() + writer->shard_ends_[i]);
    begin = writer->shard_ends_[i];
    writer->shard_names_.push_back(ShardName(i, shards));
  }
  writer->tensors_ = std::move(tensors);
  const std::string other = JoinPath(
      directory, writer->sharded() ? kSingleWeightsFile : kWeightIndexFile);
  if (FileExists(other)) {
    return absl::AlreadyExistsError(fmt::format(
        "{} is there already; the new weights in {} file(s) beside it would be "
        "ambiguous",
        other, shards));
  }
  SL_RETURN_IF_ERROR(writer->Advance());
  return writer;
}

ModelWeightsWriter::~ModelWeightsWriter() {
  if (finished_) return;
  for (size_t i = 0; i < shard_; ++i) {
    // What cannot be removed is not a model: there is no index.
    RemoveAll(JoinPath(directory_, shard_names_[i])).IgnoreError();
  }
}

absl::Status ModelWeightsWriter::Advance() {
  while (shard_ < shard_names_.size()) {
    if (file_ == nullptr) {
      const size_t begin = shard_ == 0 ? 0 : shard_ends_[shard_ - 1];
      SL_ASSIGN_OR_RETURN(file_, SafetensorsWriter::Create(
                                     JoinPath(directory_, shard_names_[shard_]),
                                     {tensors_.begin() + begin,
                                      tensors_.begin() + shard_ends_[shard_]},
                                     metadata_));
    }
    // A single file is the model, so it waits for Finish().
    if (!sharded() || !file_->complete()) return absl::OkStatus();
    SL_RETURN_IF_ERROR(file_->Finish());
    file_ = nullptr;
    ++shard_;
  }
  return absl::OkStatus();
}

absl::Status ModelWeightsWriter::Append(std::string_view name,
                                        std::string_view bytes) {
  if (file_ == nullptr) {
    if (bytes.empty()) return absl::OkStatus();
    return Refuse(directory_, fmt::format("{} gets bytes, but every tensor has "
                                          "its own",
                                          TensorLabel(name)));
  }
  SL_RETURN_IF_ERROR(file_->Append(name, bytes));
  return Advance();
}

absl::Status ModelWeightsWriter::Finish() {
  // The last shard is open when it, or a single file, waits.
  if (file_ != nullptr) {
    SL_RETURN_IF_ERROR(file_->Finish());
    file_ = nullptr;
    ++shard_;
  }
  if (shard_ != shard_names_.size()) {
    return absl::FailedPreconditionError(
        fmt::format("{} was not written to its end", directory_));
  }
  if (sharded()) SL_RETURN_IF_ERROR(WriteIndex());
  finished_ = true;
  return absl::OkStatus();
}

absl::Status ModelWeightsWriter::WriteIndex() {
  json index;
  index["metadata"]["total_size"] = total_bytes_;
  size_t shard = 0;
  for (size_t i = 0; i < tensors_.size(); ++i) {
    if (i == shard_ends_[shard]) ++shard;
    index["weight_map"][tensors_[i].name] = shard_names_[shard];
  }
  return WriteFileAtomic(JoinPath(directory_, kWeightIndexFile),
                         index.dump(2) + "\n");
}

}  // namespace sinklora
