// Builds the files of a dataset: manifest.json, ledger.jsonl,
// examples-train.bin and examples-validation.bin.
//
// Memory: one window of documents (at most 64 MiB of text, or one document) and
// about 300 bytes a record. The bytes written are a function of the input's
// recipe, sources and tokenizer; not of threads, time or dataset name.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CURATOR_DATASET_BUILDER_H_
#define SINKLORA_SERVICES_CURATOR_DATASET_BUILDER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/text/tokenizer.h"
#include "services/curator/source_file.h"
#include "services/curator/types.h"

namespace sinklora::curator {

inline constexpr char kManifestFile[] = "manifest.json";
inline constexpr char kLedgerFile[] = "ledger.jsonl";
inline constexpr char kTrainFile[] = "examples-train.bin";
inline constexpr char kValidationFile[] = "examples-validation.bin";

// Borrows what it points to.
struct BuildInput {
  Recipe recipe;  // resolved
  std::vector<std::string> source_digests;
  std::vector<const SourceReader*> sources;
  const Tokenizer* tokenizer = nullptr;
  int threads = 1;
  CancelledFn cancelled;  // called from several threads
  ProgressFn progress;    // called from the calling thread
};

struct BuiltDataset {
  std::string digest;  // SHA-256 of manifest.json
  Counts counts;
};

// Writes into the existing, empty directory `directory`. kCancelled when
// `cancelled` said so; kInvalidArgument with reason EMPTY_DATASET when no
// training example is left, with the counts in the message. After an error the
// directory's content is to be thrown away.
absl::StatusOr<BuiltDataset> BuildDataset(const BuildInput& input,
                                          const std::string& directory);

}  // namespace sinklora::curator

#endif  // SINKLORA_SERVICES_CURATOR_DATASET_BUILDER_H_
