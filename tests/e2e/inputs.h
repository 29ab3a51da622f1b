// Small real inputs for tests of whole jobs: a tiny model and documents it can
// be tuned on.
//
// Thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_E2E_INPUTS_H_
#define SINKLORA_TESTS_E2E_INPUTS_H_

#include <string>

#include "absl/status/status.h"

namespace sinklora::testing {

// `count` different plain-text documents of about 3 KB, doc-00.txt and so on.
absl::Status WriteTextDocuments(const std::string& directory, int count);

// A Hugging Face directory of a random Llama with a context of 64 tokens.
absl::Status WriteSmallModel(const std::string& directory);

}  // namespace sinklora::testing

#endif  // SINKLORA_TESTS_E2E_INPUTS_H_
