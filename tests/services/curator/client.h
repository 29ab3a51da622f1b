// CuratorService's RPCs as plain calls, for tests.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_SERVICES_CURATOR_CLIENT_H_
#define SINKLORA_TESTS_SERVICES_CURATOR_CLIENT_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/rpc/channel.h"
#include "sinklora/curator/v1/curator_service.grpc.pb.h"
#include "tests/services/curator/fixture.h"

namespace sinklora::curator {

inline constexpr double kTimeoutSeconds = 60;

// A request over one source: model "tiny", context 64, all documents in
// training.
v1::CurateRequest RequestOf(const std::string& name, const std::string& source,
                            const std::string& request_id);

class CuratorClient {
 public:
  explicit CuratorClient(const std::string& address);

  absl::StatusOr<v1::Source> Import(const std::string& name, const Files& files,
                                    const std::string& request_id);
  // The dataset; the stages that were reported go to *stages when given.
  absl::StatusOr<v1::Dataset> Curate(
      const v1::CurateRequest& request,
      std::vector<std::string>* stages = nullptr);
  absl::StatusOr<v1::Dataset> GetDataset(const std::string& name);
  absl::StatusOr<std::vector<v1::StreamExamplesResponse>> Stream(
      const v1::StreamExamplesRequest& request);
  v1::CuratorService::Stub& stub() { return *stub_; }

 private:
  const std::unique_ptr<v1::CuratorService::Stub> stub_;
};

}  // namespace sinklora::curator

#endif  // SINKLORA_TESTS_SERVICES_CURATOR_CLIENT_H_
