// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <prometheus/exposer.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <exception>
#include <future>
#include <system_error>

#include "common/metrics/metrics.h"
#include "common/metrics/registry.h"

namespace sinklora {
namespace {

constexpr std::chrono::milliseconds kKnockInterval{5};

// Opens and closes a connection to a port of this machine. Failure is of no
// consequence.
void Knock(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  // The connection itself is the message.
  static_cast<void>(connect(fd, reinterpret_cast<const sockaddr*>(&address),
                            sizeof(address)));
  close(fd);
}

class PrometheusExposer final : public MetricsExposer {
 public:
  PrometheusExposer(std::unique_ptr<prometheus::Exposer> exposer,
                    std::shared_ptr<prometheus::Collectable> collectable)
      : collectable_(std::move(collectable)), exposer_(std::move(exposer)) {
    exposer_->RegisterCollectable(collectable_);
  }
  // The HTTP server looks for the order to stop every two seconds or when
  // somebody connects. Knocking spares each process that time at its end.
  ~PrometheusExposer() override {
    const int own_port = port();
    try {
      std::future<void> stopped =
          std::async(std::launch::async, [this] { exposer_.reset(); });
      while (stopped.wait_for(kKnockInterval) != std::future_status::ready) {
        Knock(own_port);
      }
    } catch (const std::system_error&) {
      // No thread to be had: the exposer stops as a member, in its own time.
    }
  }
  int port() const override { return exposer_->GetListeningPorts().front(); }

 private:
  const std::shared_ptr<prometheus::Collectable> collectable_;
  std::unique_ptr<prometheus::Exposer> exposer_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsExposer>> MetricsExposer::Create(
    const std::string& address, MetricsRegistry* registry) {
  auto* const collectable = dynamic_cast<CollectableRegistry*>(registry);
  if (collectable == nullptr) {
    return absl::InvalidArgumentError(
        "metrics registry was not made by MetricsRegistry::Create");
  }
  // With the default of two threads and no time limit, two idle connections
  // would stop all scrapes.
  const std::vector<std::string> options = {"listening_ports",    address,
                                            "num_threads",        "8",
                                            "request_timeout_ms", "2000"};
  try {
    auto exposer = std::make_unique<prometheus::Exposer>(options);
    if (exposer->GetListeningPorts().empty()) {
      return absl::UnavailableError(
          fmt::format("cannot serve metrics on {}", address));
    }
    return std::make_unique<PrometheusExposer>(std::move(exposer),
                                               collectable->collectable());
  } catch (const std::exception& error) {
    return absl::UnavailableError(
        fmt::format("cannot serve metrics on {}: {}", address, error.what()));
  }
}

}  // namespace sinklora
