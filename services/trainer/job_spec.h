// From a submitted TrainingSpec to one with every default filled in, or to an
// error that names the field, the value and the limit. Pure functions.
//
// Every option is either active and echoed, or refused: an option that the
// chosen mode or pattern does not use is an error, never ignored.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_TRAINER_JOB_SPEC_H_
#define SINKLORA_SERVICES_TRAINER_JOB_SPEC_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "sinklora/curator/v1/curator_service.pb.h"
#include "sinklora/registry/v1/registry_service.pb.h"
#include "sinklora/trainer/v1/training_service.pb.h"

namespace sinklora::trainer {

// Checks everything that needs nothing but the spec, and fills every default
// but context_tokens.
absl::StatusOr<trainer::v1::TrainingSpec> ResolveOptions(
    const trainer::v1::TrainingSpec& spec);

// Checks a resolved spec against its model and dataset, and fills
// context_tokens. kFailedPrecondition with reason TOKENIZER_MISMATCH or
// DATASET_EMPTY.
absl::Status ResolveInputs(const registry::v1::Model& base_model,
                           const curator::v1::Dataset& dataset,
                           trainer::v1::TrainingSpec* spec);

// OK when `spec` may go on from `previous`, the job named by resume_job: it
// ended CANCELLED or FAILED, has a checkpoint, and differs only in steps,
// output_name, workers and the checkpoint and validation options.
absl::Status CheckResume(const trainer::v1::TrainingSpec& spec,
                         const std::string& base_model_digest,
                         const std::string& dataset_digest,
                         const trainer::v1::TrainingJob& previous);

}  // namespace sinklora::trainer

#endif  // SINKLORA_SERVICES_TRAINER_JOB_SPEC_H_
