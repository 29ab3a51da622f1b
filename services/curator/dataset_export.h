// Examples in a form for people and other tools.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CURATOR_DATASET_EXPORT_H_
#define SINKLORA_SERVICES_CURATOR_DATASET_EXPORT_H_

#include <string>

#include "absl/status/status.h"
#include "common/text/tokenizer.h"
#include "services/curator/example_file.h"
#include "services/curator/types.h"

namespace sinklora::curator {

// Writes one JSON object an example and line: index, text (special tokens left
// out; bytes that were cut inside a character are U+FFFD), token_ids,
// supervised (0 or 1 a token), document_tokens. kCancelled when `cancelled`
// says so.
absl::Status WriteExamplesAsText(const ExampleReader& examples,
                                 const Tokenizer& tokenizer,
                                 const CancelledFn& cancelled,
                                 const std::string& path);

}  // namespace sinklora::curator

#endif  // SINKLORA_SERVICES_CURATOR_DATASET_EXPORT_H_
