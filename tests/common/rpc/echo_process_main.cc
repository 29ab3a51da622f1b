// The smallest program on RunProcess, for process_test.
//
// SPDX-License-Identifier: Apache-2.0
#include "absl/flags/flag.h"
#include "common/rpc/process.h"

ABSL_FLAG(std::string, fail_with, "", "makes the start fail with this message");
ABSL_FLAG(bool, stop_at_once, false, "asks for a stop as soon as it listens");

namespace sinklora {
namespace {

class EmptyService final : public HostedService {
 public:
  std::vector<grpc::Service*> grpc_services() override { return {}; }
  absl::Status OnListening(const std::string& /*address*/) override {
    if (absl::GetFlag(FLAGS_stop_at_once)) RequestStop();
    return absl::OkStatus();
  }
};

absl::StatusOr<std::unique_ptr<HostedService>> Make(const ProcessEnv& env) {
  const std::string failure = absl::GetFlag(FLAGS_fail_with);
  if (!failure.empty()) return absl::DataLossError(failure);
  env.metrics->GetGauge("sinklora_test_up", "1.")->Set(1);
  return std::make_unique<EmptyService>();
}

}  // namespace
}  // namespace sinklora

int main(int argc, char** argv) {
  return sinklora::RunProcess(argc, argv, {.usage = "echo_process"},
                              sinklora::Make);
}
