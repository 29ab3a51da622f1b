// Runs one leased job from its first byte to its end: fetches model, dataset
// and checkpoint, trains, validates, checkpoints, hands in the result.
//
// A failure of the job itself (bad data, non-finite loss, no memory, a full
// disk) ends the job as FAILED with a reason. A failure to reach a service is
// tried again until the lease is lost. Nothing that a job does ends the worker.
//
// In a job of several workers each runs its seat. A failure of the job ends it
// from any seat. When the workers cannot reach each other any more, it is given
// up for another attempt, unless the trainer has ended it by then.
//
// Thread-compatible: one RunJob() at a time. Borrows everything in Options.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_WORKER_JOB_RUNNER_H_
#define SINKLORA_SERVICES_WORKER_JOB_RUNNER_H_

#include <string>
#include <vector>

#include "common/base/clock.h"
#include "kernels/backend.h"
#include "services/worker/lease_keeper.h"
#include "services/worker/metrics.h"
#include "services/worker/model_cache.h"
#include "services/worker/remote.h"

namespace sinklora::worker {

struct JobRunnerOptions {
  Remote* remote = nullptr;
  ModelCache* models = nullptr;
  // >= 1, as the worker said when it asked for the job. That takes the first
  // ones, as many as its lease says.
  std::vector<kernels::Backend*> backends;
  WorkerMetrics* metrics = nullptr;
  Clock* clock = nullptr;
};

// How this worker's hold on a job ended: "succeeded", "failed", "cancelled",
// "followed" (it did its part, and the worker of seat 0 ended the hold),
// "released" (shutdown: the job is queued again) or "abandoned" (lease lost,
// other workers lost, or it could not be given back). After the last two
// another attempt goes on from the last checkpoint.
std::string RunJob(const JobRunnerOptions& options,
                   const trainer::v1::TrainingJob& job, LeaseKeeper* keeper);

}  // namespace sinklora::worker

#endif  // SINKLORA_SERVICES_WORKER_JOB_RUNNER_H_
