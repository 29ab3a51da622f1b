// Idempotency of mutating RPCs: the response to each request_id, written in the
// same batch as its effect.
//
// Usage inside a handler, under the caller's own mutex:
//   SL_ASSIGN_OR_RETURN(auto seen, request_log.Find(method, request_id,
//   request_fingerprint)); if (seen) return ParseResponse(*seen);
//   ... compute effect ...; request_log.Record(method, request_id,
//   request_fingerprint, response_bytes, &batch);
//   SL_RETURN_IF_ERROR(store->Write(batch));
// Entries are kept for kRequestRetentionDays at least. Each record takes up to
// four older ones away, in its own batch, so that what is kept is bounded by
// the requests of that time.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_STORE_REQUEST_LOG_H_
#define SINKLORA_COMMON_STORE_REQUEST_LOG_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/store/store.h"

namespace sinklora {

inline constexpr int kRequestRetentionDays = 7;

// Thread-safe (stateless over the store). Borrows both.
class RequestLog {
 public:
  RequestLog(Store* store, Clock* clock) : store_(store), clock_(clock) {}

  // The recorded response, or nullopt when `request_id` is new.
  // kInvalidArgument (reason REQUEST_ID_REUSED) when the id was used with
  // another fingerprint; kInvalidArgument when the id is empty or over 64
  // characters. `fingerprint`: hash of the request without its request_id.
  absl::StatusOr<std::optional<std::string>> Find(
      const std::string& method, const std::string& request_id,
      const std::string& fingerprint);
  void Record(const std::string& method, const std::string& request_id,
              const std::string& fingerprint, const std::string& response,
              WriteBatch* batch);

 private:
  void TakeOld(int64_t now_micros, WriteBatch* batch);

  Store* const store_;
  Clock* const clock_;
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_STORE_REQUEST_LOG_H_
