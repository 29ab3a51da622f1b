// SPDX-License-Identifier: Apache-2.0
#include "common/text/proto_reader.h"

#include <bit>

namespace sinklora {

bool ProtoReader::ReadVarint(uint64_t* value) {
  *value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    if (offset_ >= data_.size()) return false;
    const auto byte = static_cast<uint8_t>(data_[offset_++]);
    *value |= static_cast<uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) return true;
  }
  return false;
}

bool ProtoReader::ReadFixed(size_t size) {
  if (data_.size() - offset_ < size) return false;
  for (size_t i = 0; i < size; ++i) {
    number_ |= static_cast<uint64_t>(static_cast<uint8_t>(data_[offset_ + i]))
               << (8 * i);
  }
  offset_ += size;
  return true;
}

bool ProtoReader::ReadValue() {
  switch (wire_) {
    case Wire::kVarint:
      return ReadVarint(&number_);
    case Wire::kFixed64:
      return ReadFixed(8);
    case Wire::kFixed32:
      return ReadFixed(4);
    case Wire::kBytes: {
      uint64_t length = 0;
      if (!ReadVarint(&length) || length > data_.size() - offset_) return false;
      bytes_ = data_.substr(offset_, length);
      offset_ += length;
      return true;
    }
  }
  return false;  // groups, which proto2 and proto3 no longer write
}

bool ProtoReader::Next() {
  if (malformed_ || offset_ >= data_.size()) return false;
  number_ = 0;
  bytes_ = {};
  uint64_t tag = 0;
  malformed_ = !ReadVarint(&tag) || tag >> 3 == 0 || tag >> 32 != 0;
  if (malformed_) return false;
  field_ = static_cast<uint32_t>(tag >> 3);
  wire_ = static_cast<Wire>(tag & 7);
  malformed_ = !ReadValue();
  return !malformed_;
}

float ProtoReader::fixed_float() const {
  if (wire_ != Wire::kFixed32) return 0;
  return std::bit_cast<float>(static_cast<uint32_t>(number_));
}

}  // namespace sinklora
