// A job's examples, held in memory. Blocks on the network; stateless.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_WORKER_DATASET_H_
#define SINKLORA_SERVICES_WORKER_DATASET_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "common/base/cancellation.h"
#include "common/model/training_run.h"
#include "services/worker/remote.h"

namespace sinklora::worker {

struct ExampleRequest {
  std::string dataset;
  std::string digest;  // the dataset must have it
  curator::v1::Split split = curator::v1::SPLIT_TRAIN;
  int64_t max_examples = 0;  // 0: all
};

// Appends the examples that `examples` does not hold yet: after an error, a
// second call goes on where the first was cut.
absl::Status FetchExamples(Remote* remote, const ExampleRequest& request,
                           const Cancellation* cancellation,
                           std::vector<TrainingExample>* examples);

}  // namespace sinklora::worker

#endif  // SINKLORA_SERVICES_WORKER_DATASET_H_
