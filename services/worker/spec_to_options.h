// The one place where a job's spec becomes options of the model library.
// Pure functions.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_WORKER_SPEC_TO_OPTIONS_H_
#define SINKLORA_SERVICES_WORKER_SPEC_TO_OPTIONS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model/options.h"
#include "common/model/training_run.h"
#include "sinklora/curator/v1/curator_service.pb.h"
#include "sinklora/trainer/v1/training_service.pb.h"

namespace sinklora::worker {

// `spec` is TrainingJob.resolved: every default is in it. kInvalidArgument for
// an enum value this worker does not know (a newer trainer's).
absl::StatusOr<TrainingOptions> ToTrainingOptions(
    const trainer::v1::TrainingSpec& spec);

// `backends`: descriptions of this worker's devices that train the job, >= 1.
// `devices`: with those of other workers.
trainer::v1::ResolvedPlan ToResolvedPlan(
    const TrainingPlan& plan, const std::vector<std::string>& backends,
    int devices);

// kInvalidArgument (reason INVALID_EXAMPLE) when its lists do not fit together.
absl::StatusOr<TrainingExample> ToTrainingExample(
    const curator::v1::Example& example);

}  // namespace sinklora::worker

#endif  // SINKLORA_SERVICES_WORKER_SPEC_TO_OPTIONS_H_
