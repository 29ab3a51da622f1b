// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/server.h"

#include <fmt/format.h>
#include <grpc/grpc.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/impl/server_builder_option.h>
#include <grpcpp/impl/server_builder_plugin.h>
#include <grpcpp/impl/server_initializer.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <chrono>
#include <mutex>

#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/rpc/address.h"
#include "common/rpc/thread_order.h"

namespace sinklora {
namespace {

constexpr int kMaxStreamsPerConnection = 256;
constexpr int kHandshakeTimeoutMillis = 10'000;
constexpr int kMinPingIntervalMillis = 30'000;

// Tells the names of the registered services, which grpc::Service keeps to
// itself: health is kept per name.
class NamesPlugin final : public grpc::ServerBuilderPlugin {
 public:
  explicit NamesPlugin(std::vector<std::string>* names) : names_(names) {}
  std::string name() override { return "sinklora_service_names"; }
  void InitServer(grpc::ServerInitializer* /*initializer*/) override {}
  void Finish(grpc::ServerInitializer* initializer) override {
    *names_ = *initializer->GetServiceList();
  }
  void ChangeArguments(const std::string& /*name*/, void* /*value*/) override {}

 private:
  std::vector<std::string>* const names_;
};

class NamesOption final : public grpc::ServerBuilderOption {
 public:
  explicit NamesOption(std::vector<std::string>* names) : names_(names) {}
  void UpdateArguments(grpc::ChannelArguments* /*arguments*/) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>*
                         plugins) override {
    plugins->push_back(std::make_unique<NamesPlugin>(names_));
  }

 private:
  std::vector<std::string>* const names_;
};

class GrpcServer final : public RpcServer {
 public:
  GrpcServer(std::unique_ptr<grpc::Server> server,
             const std::vector<std::string>& names, std::string host, int port)
      : server_(std::move(server)), host_(std::move(host)), port_(port) {
    for (const std::string& name : names) {
      server_->GetHealthCheckService()->SetServingStatus(name, false);
    }
    SetServing(false);
  }
  ~GrpcServer() override { Drain(/*grace_seconds=*/0); }

  int port() const override { return port_; }
  std::string address() const override {
    return fmt::format("{}:{}", host_, port_);
  }
  void SetServing(bool serving) override {
    MutexLock lock(&mutex_);
    if (!drained_) server_->GetHealthCheckService()->SetServingStatus(serving);
  }
  void Drain(double grace_seconds) override;

 private:
  const std::unique_ptr<grpc::Server> server_;
  const std::string host_;
  const int port_;
  Mutex mutex_;
  bool drained_ ABSL_GUARDED_BY(mutex_) = false;
};

void GrpcServer::Drain(double grace_seconds) {
  SetServing(false);
  {
    MutexLock lock(&mutex_);
    if (drained_) return;
    drained_ = true;
  }
  // With a deadline the server cancels what is left and returns once every
  // handler has seen that and ended.
  const auto grace = std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::duration<double>(grace_seconds));
  server_->Shutdown(std::chrono::system_clock::now() + grace);
  server_->Wait();
  rpc_internal::NoteServerDrained();
}

void ConfigureLimits(const RpcServer::Options& options,
                     grpc::ServerBuilder* builder) {
  builder->SetMaxReceiveMessageSize(options.max_receive_message_bytes);
  // Otherwise a second process could listen on a port in use and take half of
  // its connections.
  builder->AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder->AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS,
                              kMaxStreamsPerConnection);
  builder->AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS,
                              kHandshakeTimeoutMillis);
  builder->AddChannelArgument(
      GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
      kMinPingIntervalMillis);
  // Reflection is the one synchronous service; it needs no crowd of threads.
  builder->SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  builder->SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
  builder->SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 1);
}

// Both register plugins in lists of the process, once.
void EnableHealthAndReflection() {
  static std::once_flag once;
  std::call_once(once, [] {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  });
}

}  // namespace

absl::StatusOr<std::unique_ptr<RpcServer>> RpcServer::Create(
    const Options& options, const std::vector<grpc::Service*>& services) {
  SL_RETURN_IF_ERROR(ValidateListenAddress("listen address", options.address,
                                           options.allow_remote));
  EnableHealthAndReflection();
  int port = 0;
  std::vector<std::string> names;
  grpc::ServerBuilder builder;
  builder.AddListeningPort(options.address, grpc::InsecureServerCredentials(),
                           &port);
  ConfigureLimits(options, &builder);
  builder.SetOption(std::make_unique<NamesOption>(&names));
  for (grpc::Service* service : services) builder.RegisterService(service);
  rpc_internal::NoteServerStarts();
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || port <= 0) {
    return absl::UnavailableError(
        fmt::format("cannot listen on {}", options.address));
  }
  return std::make_unique<GrpcServer>(std::move(server), names,
                                      HostOf(options.address), port);
}

}  // namespace sinklora
