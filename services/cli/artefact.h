// Models and adapters as commands find and show them.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CLI_ARTEFACT_H_
#define SINKLORA_SERVICES_CLI_ARTEFACT_H_

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "services/cli/session.h"
#include "sinklora/registry/v1/registry_service.pb.h"

namespace sinklora::cli {

using Artefact = std::variant<registry::v1::Model, registry::v1::Adapter>;

// What has the name. Models and adapters have names of their own kind, so the
// same name may stand for one of each: then it is the model, unless
// `only_adapters`. kNotFound when nothing has it.
absl::StatusOr<Artefact> FindArtefact(RegistryClient* client,
                                      const std::string& name,
                                      bool only_adapters);

// The check in one line.
std::string MergeCheckLine(const registry::v1::MergeCheck& check);

int64_t TotalBytes(const registry::v1::Model& model);
int64_t TotalBytes(const registry::v1::Adapter& adapter);

// Everything but the files, as aligned fields on stdout or as JSON.
// `with_files` adds a table of them to the text; JSON has them always.
void PrintArtefact(Session* session, const Artefact& artefact, bool with_files);

}  // namespace sinklora::cli

#endif  // SINKLORA_SERVICES_CLI_ARTEFACT_H_
