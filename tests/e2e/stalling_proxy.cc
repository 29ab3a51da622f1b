// SPDX-License-Identifier: Apache-2.0
#include "tests/e2e/stalling_proxy.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace sinklora::testing {
namespace {

// How often the thread looks whether it is to stop.
constexpr int kPollMillis = 20;

sockaddr_in Loopback(int port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

bool SendAll(int fd, std::string_view data) {
  while (!data.empty()) {
    const ssize_t sent = send(fd, data.data(), data.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    data.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

}  // namespace

absl::StatusOr<std::unique_ptr<StallingProxy>> StallingProxy::Start(
    const std::string& target, int64_t limit_bytes) {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = Loopback(0);
  socklen_t size = sizeof(address);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (listener < 0 || bind(listener, generic, size) != 0 ||
      listen(listener, 8) != 0 || getsockname(listener, generic, &size) != 0) {
    if (listener >= 0) close(listener);
    return absl::InternalError("the proxy cannot listen");
  }
  return std::unique_ptr<StallingProxy>(new StallingProxy(
      listener, fmt::format("127.0.0.1:{}", ntohs(address.sin_port)),
      std::stoi(target.substr(target.rfind(':') + 1)), limit_bytes));
}

StallingProxy::StallingProxy(int listener, std::string address, int target_port,
                             int64_t limit_bytes)
    : listener_(listener),
      address_(std::move(address)),
      target_port_(target_port),
      left_bytes_(limit_bytes),
      thread_([this] { Run(); }) {}

StallingProxy::~StallingProxy() {
  stopped_ = true;
  thread_.join();
}

void StallingProxy::Run() {
  while (!stopped_) {
    pollfd incoming = {.fd = listener_.get(), .events = POLLIN, .revents = 0};
    if (poll(&incoming, 1, kPollMillis) <= 0) continue;
    const posix::ScopedFd client(
        accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    const posix::ScopedFd server(
        socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_in target = Loopback(target_port_);
    if (client.get() < 0 || server.get() < 0 ||
        connect(server.get(), reinterpret_cast<const sockaddr*>(&target),
                sizeof(target)) != 0) {
      continue;  // the client sees its connection closed
    }
    Carry(client.get(), server.get());
  }
}

void StallingProxy::Carry(int client, int server) {
  while (!stopped_) {
    // Once stalled, what the client sends stays with it.
    std::array<pollfd, 2> ends = {
        pollfd{.fd = server, .events = POLLIN, .revents = 0},
        pollfd{.fd = client,
               .events = static_cast<short>(stalled() ? 0 : POLLIN),
               .revents = 0}};
    if (poll(ends.data(), ends.size(), kPollMillis) <= 0) continue;
    if (ends[0].revents != 0 && Copy(server, client, INT64_MAX) == 0) return;
    if (ends[1].revents == 0) continue;
    if (stalled()) return;  // the client hung up
    const int64_t copied = Copy(client, server, left_bytes_);
    if (copied == 0) return;
    left_bytes_ -= copied;
  }
}

int64_t StallingProxy::Copy(int from, int to, int64_t limit) {
  std::array<char, 16384> buffer;
  const auto wanted =
      std::min<size_t>(buffer.size(), static_cast<size_t>(limit));
  const ssize_t got = recv(from, buffer.data(), wanted, 0);
  if (got <= 0) return 0;
  return SendAll(to, {buffer.data(), static_cast<size_t>(got)}) ? got : 0;
}

}  // namespace sinklora::testing
