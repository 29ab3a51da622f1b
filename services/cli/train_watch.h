// Follows a training job to its end.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CLI_TRAIN_WATCH_H_
#define SINKLORA_SERVICES_CLI_TRAIN_WATCH_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "services/cli/session.h"

namespace sinklora::cli {

// Prints the events of `job` from a sequence number on, one line each (JSON
// lines with --json; on a terminal, steps share one live line), until the job
// ends. Survives a restart of the trainer: it connects again and goes on after
// the last event seen, and gives up with kUnavailable after a minute without an
// answer. JobEndedError when the job failed or was cancelled.
absl::Status WatchJob(Session* session, const std::string& job,
                      int64_t from_sequence);

// "step 12/100  loss 3.2109  lr 2.00e-05  1,234 tok/s ..." of the newest
// measurements.
std::string StepLine(const trainer::v1::TrainingMetrics& metrics,
                     int64_t total_steps);

}  // namespace sinklora::cli

#endif  // SINKLORA_SERVICES_CLI_TRAIN_WATCH_H_
