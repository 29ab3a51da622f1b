// Reads protobuf's wire format field by field, for the one message type that is
// not worth linking a schema for.
//
// Not thread-safe. Views point into the data given to the constructor.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_PROTO_READER_H_
#define SINKLORA_COMMON_TEXT_PROTO_READER_H_

#include <cstdint>
#include <string_view>

namespace sinklora {

class ProtoReader {
 public:
  enum class Wire { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

  explicit ProtoReader(std::string_view data) : data_(data) {}

  // Advances to the next field; false at the end or at malformed data.
  bool Next();
  bool malformed() const { return malformed_; }
  size_t offset() const { return offset_; }

  uint32_t field() const { return field_; }
  Wire wire() const { return wire_; }
  // Of the current field; zero or empty when it has another wire type.
  uint64_t varint() const { return number_; }
  float fixed_float() const;
  std::string_view bytes() const { return bytes_; }

 private:
  bool ReadVarint(uint64_t* value);
  bool ReadFixed(size_t size);
  bool ReadValue();

  const std::string_view data_;
  size_t offset_ = 0;
  bool malformed_ = false;
  uint32_t field_ = 0;
  Wire wire_ = Wire::kVarint;
  uint64_t number_ = 0;
  std::string_view bytes_;
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_PROTO_READER_H_
