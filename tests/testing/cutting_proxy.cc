// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/cutting_proxy.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <thread>
#include <utility>
#include <vector>

#include "common/base/mutex.h"

namespace sinklora::testing {
namespace {

sockaddr_in Loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

bool SendAll(int fd, const char* data, size_t size) {
  while (size > 0) {
    const ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
    if (sent <= 0) return false;
    data += sent;
    size -= static_cast<size_t>(sent);
  }
  return true;
}

class Proxy final : public CuttingProxy {
 public:
  Proxy(int listener, int port, int server_port)
      : listener_(listener),
        port_(port),
        server_port_(server_port),
        acceptor_([this] { AcceptLoop(); }) {}

  ~Proxy() override {
    shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    {
      MutexLock lock(&mutex_);
      for (const int fd : sockets_) shutdown(fd, SHUT_RDWR);
    }
    // Nobody adds any: the acceptor is gone.
    for (std::thread& pump : pumps_) pump.join();
    for (const int fd : sockets_) close(fd);
    close(listener_);
  }

  std::string address() const override {
    return fmt::format("127.0.0.1:{}", port_);
  }
  void CutAfter(int64_t bytes, int times) override {
    MutexLock lock(&mutex_);
    limit_bytes_ = bytes;
    left_bytes_ = bytes;
    times_ = times;
  }
  void GoDownAfter(int64_t bytes) override {
    CutAfter(bytes, 1);
    MutexLock lock(&mutex_);
    goes_down_ = true;
  }
  void ComeBack() override {
    MutexLock lock(&mutex_);
    down_ = false;
    goes_down_ = false;
  }
  int64_t passed_bytes() const override {
    MutexLock lock(&mutex_);
    return passed_bytes_;
  }
  int cuts() const override {
    MutexLock lock(&mutex_);
    return cuts_;
  }

 private:
  void AcceptLoop() {
    while (true) {
      const int client = accept(listener_, nullptr, nullptr);
      if (client < 0) return;
      const int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      const sockaddr_in address = Loopback(server_port_);
      // A server that is down looks like a connection that is closed at once.
      if (connect(server, reinterpret_cast<const sockaddr*>(&address),
                  sizeof(address)) != 0) {
        close(server);
        close(client);
        continue;
      }
      MutexLock lock(&mutex_);
      sockets_.insert(sockets_.end(), {client, server});
      pumps_.emplace_back([this, client, server] {
        Pump(client, server, /*from_server=*/false);
      });
      pumps_.emplace_back([this, client, server] {
        Pump(server, client, /*from_server=*/true);
      });
    }
  }

  // How much of `size` more bytes may pass, and whether the connection ends
  // then.
  size_t Allowed(size_t size, bool* cut) {
    MutexLock lock(&mutex_);
    *cut = down_;
    if (down_) return 0;
    const auto wanted_bytes = static_cast<int64_t>(size);
    if (times_ == 0 || left_bytes_ > wanted_bytes) {
      left_bytes_ -= wanted_bytes;
      passed_bytes_ += wanted_bytes;
      return size;
    }
    const auto allowed = static_cast<size_t>(left_bytes_);
    passed_bytes_ += left_bytes_;
    left_bytes_ = limit_bytes_;
    --times_;
    ++cuts_;
    down_ = goes_down_;
    *cut = true;
    return allowed;
  }

  void Pump(int from, int to, bool from_server) {
    std::array<char, 16384> buffer;
    while (true) {
      const ssize_t got = recv(from, buffer.data(), buffer.size(), 0);
      if (got <= 0) break;
      const auto size = static_cast<size_t>(got);
      bool cut = false;
      const size_t allowed = from_server ? Allowed(size, &cut) : size;
      if (!SendAll(to, buffer.data(), allowed) || cut) break;
    }
    shutdown(from, SHUT_RDWR);
    shutdown(to, SHUT_RDWR);
  }

  const int listener_;
  const int port_;
  const int server_port_;
  mutable Mutex mutex_;
  int64_t limit_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t left_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  int times_ ABSL_GUARDED_BY(mutex_) = 0;
  int cuts_ ABSL_GUARDED_BY(mutex_) = 0;
  bool goes_down_ ABSL_GUARDED_BY(mutex_) = false;  // with the next cut
  bool down_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t passed_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  // Written by the acceptor under the mutex; closed when all pumps are gone.
  std::vector<int> sockets_;
  std::vector<std::thread> pumps_;
  std::thread acceptor_;  // last: it uses everything above
};

}  // namespace

absl::StatusOr<std::unique_ptr<CuttingProxy>> CuttingProxy::Start(
    const std::string& server) {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = Loopback(0);
  socklen_t length = sizeof(address);
  if (listener < 0 ||
      bind(listener, reinterpret_cast<const sockaddr*>(&address),
           sizeof(address)) != 0 ||
      listen(listener, 16) != 0 ||
      getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length) !=
          0) {
    if (listener >= 0) close(listener);
    return absl::UnavailableError("the proxy cannot listen");
  }
  const int server_port = std::stoi(server.substr(server.rfind(':') + 1));
  return std::make_unique<Proxy>(listener, ntohs(address.sin_port),
                                 server_port);
}

}  // namespace sinklora::testing
