// SPDX-License-Identifier: Apache-2.0
#include "services/worker/dataset.h"

#include <fmt/format.h>

#include "common/base/status.h"
#include "services/worker/spec_to_options.h"

namespace sinklora::worker {

absl::Status FetchExamples(Remote* remote, const ExampleRequest& request,
                           const Cancellation* cancellation,
                           std::vector<TrainingExample>* examples) {
  const int64_t held = static_cast<int64_t>(examples->size());
  curator::v1::StreamExamplesRequest stream;
  stream.set_name(request.dataset);
  stream.set_digest(request.digest);
  stream.set_split(request.split);
  stream.set_first_example(held);
  if (request.max_examples > 0) {
    if (held >= request.max_examples) return absl::OkStatus();
    stream.set_max_examples(request.max_examples - held);
  }
  return remote->StreamExamples(
      stream, cancellation,
      [&](const curator::v1::StreamExamplesResponse& response) {
        const int64_t expected = static_cast<int64_t>(examples->size());
        if (response.index() != expected) {
          return absl::DataLossError(
              fmt::format("dataset {}: example {} came in place of {}",
                          request.dataset, response.index(), expected));
        }
        auto example = ToTrainingExample(response.example());
        if (!example.ok()) {
          return Annotate(example.status(),
                          fmt::format("dataset {}, example {}", request.dataset,
                                      response.index()));
        }
        examples->push_back(*std::move(example));
        return absl::OkStatus();
      });
}

}  // namespace sinklora::worker
