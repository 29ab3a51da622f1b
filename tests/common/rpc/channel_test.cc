// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/channel.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <chrono>

#include "common/base/posix.h"
#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

// A server that is slow to say its first word, as on a busy machine, is not
// given up at once.
TEST(ChannelTest, ASlowServerGetsTimeToAnswer) {
  const posix::ScopedFd listener(
      socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(bind(listener.get(), generic, size), 0);
  ASSERT_EQ(listen(listener.get(), 8), 0);
  ASSERT_EQ(getsockname(listener.get(), generic, &size), 0);
  const auto channel =
      MakeChannel("127.0.0.1:" + std::to_string(ntohs(address.sin_port)));
  ASSERT_EQ(channel->GetState(/*try_to_connect=*/true), GRPC_CHANNEL_IDLE);
  const posix::ScopedFd client(
      accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  ASSERT_GE(client.get(), 0);
  // It hangs up within this time only if it gives up.
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(1);
  bool open = true;
  while (open && std::chrono::steady_clock::now() < end) {
    pollfd news = {.fd = client.get(), .events = POLLIN, .revents = 0};
    if (poll(&news, 1, /*timeout=*/50) <= 0) continue;
    std::array<char, 4096> greeting;
    open = recv(client.get(), greeting.data(), greeting.size(), 0) > 0;
  }
  EXPECT_TRUE(open) << "the client hung up";
}

}  // namespace
}  // namespace sinklora
