// Transactional key-value store: the durable state of every service. One writer
// process at a time (the directory is locked). Keys and values are bytes; typed
// access is a proto serialised by the caller.
//
// Durability: an OK Write() has reached the disk (WAL fsync). Atomicity: all
// operations of a WriteBatch or none. Thread-safety: all methods may be called
// from any thread. Never call from a gRPC callback thread: writes block.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_STORE_STORE_H_
#define SINKLORA_COMMON_STORE_STORE_H_

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sinklora {

// Operations applied in order, all or nothing. Value type.
class WriteBatch {
 public:
  struct Op {
    std::string key;
    std::optional<std::string> value;  // nullopt: delete
  };
  void Put(std::string key, std::string value) {
    ops_.push_back({std::move(key), std::move(value)});
  }
  void Delete(std::string key) {
    ops_.push_back({std::move(key), std::nullopt});
  }
  const std::vector<Op>& ops() const { return ops_; }

 private:
  std::vector<Op> ops_;
};

class Store {
 public:
  virtual ~Store() = default;
  // kNotFound when the key is absent; kDataLoss when the stored bytes fail
  // their checksum.
  virtual absl::StatusOr<std::string> Get(const std::string& key) = 0;
  virtual absl::Status Write(const WriteBatch& batch) = 0;
  // Up to `limit` (key, value) pairs with keys that begin with `prefix` and are
  // > `after` (or >= prefix when `after` is empty), in byte order, from one
  // consistent snapshot.
  virtual absl::StatusOr<std::vector<std::pair<std::string, std::string>>> Scan(
      const std::string& prefix, const std::string& after, int limit) = 0;
};

// RocksDB in `directory`, created when absent. kFailedPrecondition when another
// process holds it.
absl::StatusOr<std::unique_ptr<Store>> OpenRocksStore(
    const std::string& directory);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_STORE_STORE_H_
