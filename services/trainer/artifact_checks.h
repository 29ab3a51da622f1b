// Validation of uploaded files before they become a model or an adapter.
// Stateless, thread-safe. Messages name files relative to the upload.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_TRAINER_ARTIFACT_CHECKS_H_
#define SINKLORA_SERVICES_TRAINER_ARTIFACT_CHECKS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/trainer/artifact_store.h"
#include "sinklora/registry/v1/registry_service.pb.h"

namespace sinklora::trainer {

// Opens the Hugging Face directory `dir` (config, weights, tokenizer) and
// describes it: files, digest, architecture, tokenizer digest. kInvalidArgument
// naming file, field and value for whatever is wrong with it, and every tensor
// with a NaN or infinity; weights in pickle form are refused by name (reason
// PICKLE_REFUSED).
absl::StatusOr<registry::v1::Model> CheckModel(const std::string& dir,
                                               const FileInfos& files);

// Reads the PEFT directory `dir` against the base model in `base_dir` and
// describes it: files, digest, context, RoPE factor, rank, dropped rows.
absl::StatusOr<registry::v1::Adapter> CheckAdapter(const std::string& dir,
                                                   const FileInfos& files,
                                                   const std::string& base_dir);

// Writes the context into the PEFT directory `dir`, whose `files` are described
// anew. kInvalidArgument (INVALID_ADAPTER_CONTEXT) for a value outside its
// range and for what RecordAdapterContext refuses: a factor that the base
// in `base_dir` has no meaning for, and files that name another context.
absl::Status ApplyContext(const registry::v1::AdapterContext& context,
                          const std::string& base_dir, const std::string& dir,
                          FileInfos* files);

// Whether the checkpoint in `dir` is one of `step` whose manifest describes
// `files`. kInvalidArgument (reason INVALID_CHECKPOINT) when not. Reads the
// manifest only: the hashes of `files` are what arrived.
absl::Status CheckCheckpoint(const std::string& dir, const FileInfos& files,
                             int64_t step);

// `status` as one about what a client sent: kInvalidArgument, with a reason,
// and paths relative to `dir`.
absl::Status AsUploadError(const absl::Status& status, const std::string& dir);

}  // namespace sinklora::trainer

#endif  // SINKLORA_SERVICES_TRAINER_ARTIFACT_CHECKS_H_
