// GGUF files as imports: converted to the Hugging Face directory that is
// stored. Stateless, thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_TRAINER_GGUF_IMPORT_H_
#define SINKLORA_SERVICES_TRAINER_GGUF_IMPORT_H_

#include "absl/status/statusor.h"
#include "services/trainer/artifact_store.h"
#include "sinklora/registry/v1/registry_service.pb.h"

namespace sinklora::trainer {

struct StagedModel {
  StagedFiles staged;
  registry::v1::Lineage lineage;
};

// What was staged, or, when that is a single file that ends with ".gguf", what
// ImportGguf makes of it; its SHA-256 is in the lineage then. kInvalidArgument
// naming file and key or tensor for a GGUF file that cannot be converted, for
// several of them, and for a single file of another form.
absl::StatusOr<StagedModel> ConvertGguf(StagedFiles staged,
                                        const ArtifactStore& artifacts);

}  // namespace sinklora::trainer

#endif  // SINKLORA_SERVICES_TRAINER_GGUF_IMPORT_H_
