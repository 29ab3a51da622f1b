// SHA-256, as lower-case hexadecimal. Content addresses of everything the
// product stores.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_BASE_HASH_H_
#define SINKLORA_COMMON_BASE_HASH_H_

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace sinklora {

// Incremental hash. Not thread-safe.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;
  void Update(std::string_view data);
  std::string FinishHex();  // 64 characters; the object is spent

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

std::string Sha256Hex(std::string_view data);
absl::StatusOr<std::string> Sha256OfFile(const std::string& path);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_BASE_HASH_H_
