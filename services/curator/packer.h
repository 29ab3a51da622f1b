// Packs tokenised documents into examples of exactly the context length.
//
// Documents follow each other in the order of Add. One that is longer than what
// is left of an example goes on in the next one as a segment of its own; every
// segment is an entry of document_tokens and is isolated from the others in
// attention. All tokens are supervised but the first of a segment, which has no
// predecessor to be predicted from. The last example may be shorter; under
// kMinExampleTokens it is dropped and reported by Finish.
//
// Not thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CURATOR_PACKER_H_
#define SINKLORA_SERVICES_CURATOR_PACKER_H_

#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/curator/types.h"

namespace sinklora::curator {

class Packer {
 public:
  using Sink = std::function<absl::Status(const TrainingExample&)>;

  // What of a document went into the dropped last example.
  struct Dropped {
    int64_t document = 0;
    std::vector<int32_t> token_ids;
  };

  // REQUIRES: context_tokens >= 1. `sink` gets the examples in order; its
  // errors are returned by Add and Finish.
  Packer(int64_t context_tokens, Sink sink)
      : context_tokens_(context_tokens), sink_(std::move(sink)) {}

  // `document` is the caller's number of it, given back in Dropped.
  absl::Status Add(int64_t document, std::span<const int32_t> token_ids);
  // Call once, last.
  absl::StatusOr<std::vector<Dropped>> Finish();

 private:
  int64_t Free() const {
    return context_tokens_ - static_cast<int64_t>(current_.token_ids.size());
  }
  absl::Status Flush();

  const int64_t context_tokens_;
  const Sink sink_;
  TrainingExample current_;
  std::vector<int64_t> documents_;  // of the segments of current_
};

}  // namespace sinklora::curator

#endif  // SINKLORA_SERVICES_CURATOR_PACKER_H_
