// Helpers that both cores of the trainer (registry and jobs) keep their rows
// with. Stateless.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_TRAINER_ROWS_H_
#define SINKLORA_SERVICES_TRAINER_ROWS_H_

#include <fmt/format.h>
#include <google/protobuf/message_lite.h>
#include <google/protobuf/timestamp.pb.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/hash.h"
#include "common/base/status.h"
#include "common/store/store.h"

namespace sinklora::trainer {

constexpr int kMaxPageSize = 1000;
constexpr int kDefaultPageSize = 50;

inline google::protobuf::Timestamp ToTimestamp(int64_t wall_micros) {
  google::protobuf::Timestamp time;
  time.set_seconds(wall_micros / 1'000'000);
  time.set_nanos(static_cast<int32_t>(wall_micros % 1'000'000) * 1000);
  return time;
}

// Bytes of a row as a message. kDataLoss naming the key when they are not one.
template <typename Message>
absl::StatusOr<Message> ParseRow(const std::string& key,
                                 const std::string& bytes) {
  Message message;
  if (!message.ParseFromString(bytes)) {
    return absl::DataLossError(
        fmt::format("row {} of the trainer's store cannot be read", key));
  }
  return message;
}

// Every row below `prefix`, in order of key.
inline absl::StatusOr<std::vector<std::pair<std::string, std::string>>> ScanAll(
    Store* store, const std::string& prefix) {
  constexpr int kPage = 1000;
  std::vector<std::pair<std::string, std::string>> rows;
  std::string after;
  while (true) {
    SL_ASSIGN_OR_RETURN(auto page, store->Scan(prefix, after, kPage));
    const bool last = page.size() < kPage;
    if (!page.empty()) after = page.back().first;
    for (auto& row : page) rows.push_back(std::move(row));
    if (last) return rows;
  }
}

// What a request asks for, apart from its request_id.
template <typename Request>
std::string Fingerprint(Request request) {
  request.clear_request_id();
  return Sha256Hex(request.SerializeAsString());
}

// Resolves page_size: kInvalidArgument outside [0, 1000].
inline absl::StatusOr<int> PageSize(int page_size) {
  if (page_size < 0 || page_size > kMaxPageSize) {
    return absl::InvalidArgumentError(fmt::format(
        "page_size is {}, allowed is [0, {}]", page_size, kMaxPageSize));
  }
  return page_size == 0 ? kDefaultPageSize : page_size;
}

}  // namespace sinklora::trainer

#endif  // SINKLORA_SERVICES_TRAINER_ROWS_H_
