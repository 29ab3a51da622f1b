// SPDX-License-Identifier: Apache-2.0
#include "services/curator/example_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>
#include <string_view>

#include "common/base/hash.h"
#include "common/base/status.h"

namespace sinklora::curator {
namespace {

static_assert(std::endian::native == std::endian::little,
              "numbers are written as they are in memory");

constexpr std::string_view kMagic = "SLEXMPL1";
constexpr std::string_view kEndMagic = "SLEXMEND";
constexpr uint32_t kVersion = 1;
constexpr size_t kHeaderBytes = 16;
constexpr size_t kChecksumBytes = 8;
constexpr size_t kFooterBytes = 3 * sizeof(uint64_t) + kChecksumBytes + 8;

template <typename T>
void Put(T value, std::string* out) {
  out->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

// REQUIRES: offset + sizeof(T) <= data.size().
template <typename T>
T Get(std::string_view data, size_t offset) {
  T value;
  std::memcpy(&value, data.data() + offset, sizeof(value));
  return value;
}

int HexDigit(char c) { return c <= '9' ? c - '0' : c - 'a' + 10; }

// The first 8 bytes of the SHA-256 of `data`.
std::string Checksum(std::string_view data) {
  const std::string hex = Sha256Hex(data);
  std::string bytes(kChecksumBytes, '\0');
  for (size_t i = 0; i < kChecksumBytes; ++i) {
    bytes[i] =
        static_cast<char>(HexDigit(hex[2 * i]) << 4 | HexDigit(hex[2 * i + 1]));
  }
  return bytes;
}

std::string SerializeExample(const TrainingExample& example) {
  const size_t tokens = example.token_ids.size();
  std::string out;
  Put(static_cast<uint32_t>(tokens), &out);
  Put(static_cast<uint32_t>(example.document_tokens.size()), &out);
  out.append(reinterpret_cast<const char*>(example.token_ids.data()),
             tokens * sizeof(int32_t));
  std::string bits((tokens + 7) / 8, '\0');
  for (size_t i = 0; i < tokens; ++i) {
    if (example.supervised[i] != 0) {
      bits[i / 8] = static_cast<char>(bits[i / 8] | 1 << (i % 8));
    }
  }
  out += bits;
  for (const int64_t length : example.document_tokens) {
    Put(static_cast<uint32_t>(length), &out);
  }
  out += Checksum(out);
  return out;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ExampleWriter>> ExampleWriter::Create(
    const std::string& path) {
  SL_ASSIGN_OR_RETURN(auto writer, HashingWriter::Create(path));
  std::string header(kMagic);
  Put(kVersion, &header);
  Put(uint32_t{0}, &header);
  SL_RETURN_IF_ERROR(writer->Append(header));
  return std::unique_ptr<ExampleWriter>(new ExampleWriter(std::move(writer)));
}

absl::Status ExampleWriter::Add(const TrainingExample& example) {
  offsets_.push_back(static_cast<uint64_t>(writer_->size_bytes()));
  token_count_ += static_cast<int64_t>(example.token_ids.size());
  supervised_count_ += std::count(example.supervised.begin(),
                                  example.supervised.end(), uint8_t{1});
  return writer_->Append(SerializeExample(example));
}

absl::StatusOr<std::string> ExampleWriter::Finish() {
  const auto index_offset = static_cast<uint64_t>(writer_->size_bytes());
  std::string tail;
  for (const uint64_t offset : offsets_) Put(offset, &tail);
  Put(index_offset, &tail);
  Put(static_cast<uint64_t>(example_count()), &tail);
  Put(static_cast<uint64_t>(token_count_), &tail);
  Put(index_offset, &tail);
  tail += Checksum(tail);
  tail += kEndMagic;
  SL_RETURN_IF_ERROR(writer_->Append(tail));
  return writer_->Finish();
}

absl::StatusOr<std::unique_ptr<ExampleReader>> ExampleReader::Open(
    const std::string& path) {
  auto file = MappedFile::Open(path);
  if (absl::IsNotFound(file.status())) {
    return absl::DataLossError(std::string(file.status().message()));
  }
  SL_RETURN_IF_ERROR(file.status());
  std::unique_ptr<ExampleReader> reader(
      new ExampleReader(path, *std::move(file)));
  SL_RETURN_IF_ERROR(reader->Load());
  return reader;
}

absl::Status ExampleReader::Damaged(const std::string& what) const {
  return absl::DataLossError(fmt::format("{} is damaged: {}", path_, what));
}

absl::Status ExampleReader::Load() {
  const std::string_view data = file_->data();
  if (data.size() < kHeaderBytes + sizeof(uint64_t) + kFooterBytes) {
    return Damaged(fmt::format("it has only {} bytes", data.size()));
  }
  if (!data.starts_with(kMagic) || !data.ends_with(kEndMagic)) {
    return Damaged("it does not begin and end with the marks of the format");
  }
  if (const auto version = Get<uint32_t>(data, 8); version != kVersion) {
    return Damaged(
        fmt::format("format version {}, must be {}", version, kVersion));
  }
  const size_t footer = data.size() - kFooterBytes;
  const auto count = Get<uint64_t>(data, footer);
  index_offset_ = Get<uint64_t>(data, footer + 16);
  if (index_offset_ < kHeaderBytes || index_offset_ >= footer ||
      (footer - index_offset_) % sizeof(uint64_t) != 0 ||
      (footer - index_offset_) / sizeof(uint64_t) - 1 != count) {
    return Damaged(fmt::format("index of {} examples at byte {} of {}", count,
                               index_offset_, data.size()));
  }
  const std::string_view checked =
      data.substr(index_offset_, footer + 24 - index_offset_);
  if (data.substr(footer + 24, kChecksumBytes) != Checksum(checked)) {
    return Damaged("checksum of the index is wrong");
  }
  example_count_ = static_cast<int64_t>(count);
  token_count_ = static_cast<int64_t>(Get<uint64_t>(data, footer + 8));
  return absl::OkStatus();
}

absl::StatusOr<TrainingExample> ExampleReader::Read(int64_t index) const {
  if (index < 0 || index >= example_count_) {
    return absl::OutOfRangeError(fmt::format("example {} of {}, which has {}",
                                             index, path_, example_count_));
  }
  const std::string_view data = file_->data();
  const size_t entry =
      index_offset_ + static_cast<size_t>(index) * sizeof(uint64_t);
  const auto begin = Get<uint64_t>(data, entry);
  const auto end = Get<uint64_t>(data, entry + sizeof(uint64_t));
  constexpr size_t kCountsBytes = 2 * sizeof(uint32_t);
  if (begin < kHeaderBytes || end > index_offset_ || begin > end ||
      end - begin < kCountsBytes + kChecksumBytes) {
    return Damaged(
        fmt::format("example {} at bytes {} to {}", index, begin, end));
  }
  const std::string_view body =
      data.substr(begin, end - begin - kChecksumBytes);
  const size_t tokens = Get<uint32_t>(body, 0);
  const size_t documents = Get<uint32_t>(body, 4);
  const size_t bits_offset = kCountsBytes + tokens * sizeof(int32_t);
  const size_t lengths_offset = bits_offset + (tokens + 7) / 8;
  if (lengths_offset + documents * sizeof(uint32_t) != body.size() ||
      data.substr(end - kChecksumBytes, kChecksumBytes) != Checksum(body)) {
    return Damaged(fmt::format("checksum of example {} is wrong", index));
  }
  TrainingExample example;
  example.token_ids.resize(tokens);
  // An empty vector's data may be null, which memcpy must not get.
  if (tokens > 0) {
    std::memcpy(example.token_ids.data(), body.data() + kCountsBytes,
                tokens * sizeof(int32_t));
  }
  example.supervised.resize(tokens);
  for (size_t i = 0; i < tokens; ++i) {
    example.supervised[i] = body[bits_offset + i / 8] >> (i % 8) & 1;
  }
  for (size_t i = 0; i < documents; ++i) {
    example.document_tokens.push_back(
        Get<uint32_t>(body, lengths_offset + i * sizeof(uint32_t)));
  }
  return example;
}

}  // namespace sinklora::curator
