// What orchestrators and tools ask of every server: grpc.health.v1 for the
// process and for each service by name, and reflection of what is served.
//
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <google/protobuf/descriptor.pb.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <gtest/gtest.h>

#include <chrono>

#include "tests/e2e/cluster.h"
#include "tests/e2e/process.h"
#include "tests/e2e/reflection.grpc.pb.h"
#include "tests/testing/health.grpc.pb.h"
#include "tests/testing/matchers.h"

namespace sinklora::testing {
namespace {

using ::grpc::health::v1::HealthCheckResponse;
using ::grpc::reflection::v1alpha::ServerReflection;
using ::grpc::reflection::v1alpha::ServerReflectionRequest;
using ::grpc::reflection::v1alpha::ServerReflectionResponse;
using ::testing::UnorderedElementsAreArray;

using Names = std::vector<std::string>;

const Names kTrainerServices = {"sinklora.trainer.v1.TrainingService",
                                "sinklora.trainer.v1.WorkerService",
                                "sinklora.registry.v1.RegistryService"};
const Names kCuratorServices = {"sinklora.curator.v1.CuratorService"};
const Names kInferenceServices = {"sinklora.inference.v1.InferenceService"};

// One server, as its clients see it.
class Server {
 public:
  explicit Server(const std::string& address) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    channel_ = grpc::CreateCustomChannel(
        address, grpc::InsecureChannelCredentials(), arguments);
  }

  // "SERVING" and so on, or the name of the error.
  std::string Health(const std::string& service) {
    grpc::ClientContext context;
    SetDeadline(&context);
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(service);
    HealthCheckResponse response;
    const grpc::Status status =
        grpc::health::v1::Health::NewStub(channel_)->Check(&context, request,
                                                           &response);
    if (status.error_code() == grpc::StatusCode::NOT_FOUND) return "NOT_FOUND";
    if (!status.ok()) return status.error_message();
    return HealthCheckResponse::ServingStatus_Name(response.status());
  }

  // Names that reflection lists, but for those of gRPC's own services.
  Names Services() {
    ServerReflectionRequest request;
    request.set_list_services("*");
    const ServerReflectionResponse response = Ask(request);
    Names names;
    for (const auto& service : response.list_services_response().service()) {
      if (!service.name().starts_with("grpc.")) names.push_back(service.name());
    }
    return names;
  }

  // Whether reflection describes `service` with at least one method.
  bool Describes(const std::string& service) {
    ServerReflectionRequest request;
    request.set_file_containing_symbol(service);
    const ServerReflectionResponse response = Ask(request);
    for (const std::string& bytes :
         response.file_descriptor_response().file_descriptor_proto()) {
      google::protobuf::FileDescriptorProto file;
      if (!file.ParseFromString(bytes)) return false;
      for (const auto& described : file.service()) {
        if (file.package() + "." + described.name() == service) {
          return described.method_size() > 0;
        }
      }
    }
    return false;
  }

 private:
  static void SetDeadline(grpc::ClientContext* context) {
    context->set_wait_for_ready(true);
    context->set_deadline(
        std::chrono::system_clock::now() +
        std::chrono::seconds(static_cast<int64_t>(kPatienceSeconds)));
  }

  ServerReflectionResponse Ask(const ServerReflectionRequest& request) {
    grpc::ClientContext context;
    SetDeadline(&context);
    const auto stub = ServerReflection::NewStub(channel_);
    const auto stream = stub->ServerReflectionInfo(&context);
    ServerReflectionResponse response;
    EXPECT_TRUE(stream->Write(request));
    EXPECT_TRUE(stream->Read(&response));
    stream->WritesDone();
    const grpc::Status status = stream->Finish();
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(response.error_response().error_message(), "");
    return response;
  }

  std::shared_ptr<grpc::Channel> channel_;
};

void ExpectServes(const std::string& address, const Names& services) {
  Server server(address);
  EXPECT_EQ(server.Health(""), "SERVING");
  EXPECT_EQ(server.Health("sinklora.Nobody"), "NOT_FOUND");
  EXPECT_THAT(server.Services(), UnorderedElementsAreArray(services));
  for (const std::string& service : services) {
    EXPECT_EQ(server.Health(service), "SERVING") << service;
    EXPECT_TRUE(server.Describes(service)) << service;
  }
}

TEST(HealthTest, EveryProcess) {
  ASSERT_OK_AND_ASSIGN(const auto cluster, Cluster::Start({}));
  const std::map<Part, Names> services = {
      {Part::kTrainer, kTrainerServices},
      {Part::kCurator, kCuratorServices},
      {Part::kWorker, {}},
      {Part::kInference, kInferenceServices}};
  for (const Part part : kAllParts) {
    SCOPED_TRACE(PartName(part));
    ExpectServes(cluster->address(part), services.at(part));
  }
}

TEST(HealthTest, AllInOneProcess) {
  ASSERT_OK_AND_ASSIGN(const std::string path, ProgramPath("sinklora"));
  ASSERT_OK_AND_ASSIGN(const auto dir, TempDir::Create());
  ASSERT_OK_AND_ASSIGN(
      const auto up,
      Process::Start({path, "up", "--data-dir", dir->path(), "--listen",
                      "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"}));
  ASSERT_OK_AND_ASSIGN(const std::string line,
                       up->WaitForLine("gRPC ", kPatienceSeconds));
  Names all = kTrainerServices;
  all.insert(all.end(), kCuratorServices.begin(), kCuratorServices.end());
  all.insert(all.end(), kInferenceServices.begin(), kInferenceServices.end());
  ExpectServes(line.substr(line.rfind(' ') + 1), all);
}

}  // namespace
}  // namespace sinklora::testing
