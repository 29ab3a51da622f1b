// SPDX-License-Identifier: Apache-2.0
#include "common/base/hash.h"

#include <fcntl.h>
#include <openssl/evp.h>

#include <array>
#include <cerrno>
#include <new>
#include <vector>

#include "common/base/posix.h"

namespace sinklora {
namespace {

// SHA-256 is always built into OpenSSL, so these calls fail only for want of
// memory.
void CheckMemory(bool ok) {
  if (!ok) throw std::bad_alloc();
}

}  // namespace

struct Sha256::Impl {
  Impl() : context(EVP_MD_CTX_new()) {
    CheckMemory(context != nullptr &&
                EVP_DigestInit_ex(context, EVP_sha256(), nullptr) == 1);
  }
  ~Impl() { EVP_MD_CTX_free(context); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  EVP_MD_CTX* const context;
};

Sha256::Sha256() : impl_(std::make_unique<Impl>()) {}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::Update(std::string_view data) {
  CheckMemory(EVP_DigestUpdate(impl_->context, data.data(), data.size()) == 1);
}

std::string Sha256::FinishHex() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned int size = 0;
  CheckMemory(EVP_DigestFinal_ex(impl_->context, digest.data(), &size) == 1);
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  hex.reserve(2 * size);
  for (unsigned int i = 0; i < size; ++i) {
    hex.push_back(kDigits[digest[i] >> 4]);
    hex.push_back(kDigits[digest[i] & 15]);
  }
  return hex;
}

std::string Sha256Hex(std::string_view data) {
  Sha256 hash;
  hash.Update(data);
  return hash.FinishHex();
}

absl::StatusOr<std::string> Sha256OfFile(const std::string& path) {
  posix::ScopedFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) return posix::ErrnoError(errno, "open", path);
  std::vector<char> buffer(size_t{256} << 10);
  Sha256 hash;
  while (true) {
    const ssize_t got = read(fd.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return posix::ErrnoError(errno, "read", path);
    if (got == 0) return hash.FinishHex();
    hash.Update({buffer.data(), static_cast<size_t>(got)});
  }
}

}  // namespace sinklora
