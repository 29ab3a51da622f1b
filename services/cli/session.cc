// SPDX-License-Identifier: Apache-2.0
#include "services/cli/session.h"

#include "common/base/ids.h"
#include "common/base/status.h"

namespace sinklora::cli {
namespace {

template <typename Client>
absl::StatusOr<Client*> Connect(const EndpointFlags& flags,
                                const std::string& environment_server,
                                std::string Endpoints::*address,
                                Interrupt* interrupt,
                                std::unique_ptr<Client>* client) {
  if (*client == nullptr) {
    SL_ASSIGN_OR_RETURN(const Endpoints endpoints,
                        ResolveEndpoints(flags, environment_server));
    *client = Client::Create(endpoints.*address, interrupt);
  }
  return client->get();
}

}  // namespace

const std::string& Session::RequestId() {
  if (request_id_flag.empty()) request_id_flag = NewRequestId();
  return request_id_flag;
}

absl::StatusOr<CuratorClient*> Session::Curator() {
  return Connect(endpoint_flags, options_.environment_server,
                 &Endpoints::curator, options_.interrupt, &curator_);
}

absl::StatusOr<TrainerClient*> Session::Trainer() {
  return Connect(endpoint_flags, options_.environment_server,
                 &Endpoints::trainer, options_.interrupt, &trainer_);
}

absl::StatusOr<RegistryClient*> Session::Registry() {
  return Connect(endpoint_flags, options_.environment_server,
                 &Endpoints::registry, options_.interrupt, &registry_);
}

absl::StatusOr<InferenceClient*> Session::Inference() {
  return Connect(endpoint_flags, options_.environment_server,
                 &Endpoints::inference, options_.interrupt, &inference_);
}

}  // namespace sinklora::cli
