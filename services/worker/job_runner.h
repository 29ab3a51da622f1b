// Runs one leased job from its first byte to its end: fetches model, dataset
// and checkpoint, trains, validates, checkpoints, hands in the result.
//
// A failure of the job itself (bad data, non-finite loss, no memory, a full
// disk) ends the job as FAILED with a reason. A failure to reach a service is
// tried again until the lease is lost. Nothing that a job does ends the worker.
//
// Thread-compatible: one Run() at a time. Borrows everything in Options.
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
  // >= 1. A job takes the first ones, at most as many as it has micro-steps in
  // an optimizer step, times its context_parallel.
  std::vector<kernels::Backend*> backends;
  WorkerMetrics* metrics = nullptr;
  Clock* clock = nullptr;
};

// How this worker's hold on a job ended: "succeeded", "failed", "cancelled",
// "released" (shutdown: the job is queued again) or "abandoned" (lease lost, or
// it could not be given back). After the last two another attempt goes on from
// the last checkpoint.
std::string RunJob(const JobRunnerOptions& options,
                   const trainer::v1::TrainingJob& job, LeaseKeeper* keeper);

}  // namespace sinklora::worker

#endif  // SINKLORA_SERVICES_WORKER_JOB_RUNNER_H_
