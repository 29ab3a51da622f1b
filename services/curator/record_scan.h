// The first half of a curation: reads every record, decides which ones go on,
// in which split, and in which order. The result is a function of the sources
// and the recipe, whatever the number of threads.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CURATOR_RECORD_SCAN_H_
#define SINKLORA_SERVICES_CURATOR_RECORD_SCAN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "services/curator/ledger.h"
#include "services/curator/source_file.h"
#include "services/curator/types.h"

namespace sinklora::curator {

// One entry a record, in order of sources and records. Rejects EMPTY and
// TOO_SHORT ones. `cancelled` is called from several threads.
absl::StatusOr<std::vector<LedgerEntry>> ScanRecords(
    const std::vector<const SourceReader*>& sources, const Recipe& recipe,
    int threads, const CancelledFn& cancelled, const ProgressFn& progress);

// Rejects every record whose content an earlier one has.
void RejectDuplicates(std::vector<LedgerEntry>* entries);

// The split of a document: a function of its content and the seed alone, so it
// never moves when others come or go.
Split SplitOf(const std::string& content_sha256, uint64_t seed,
              double validation_fraction);

// Positions of the kept entries in the order of the dataset: by a keyed hash of
// the content. It is a random permutation, differs by seed, and documents keep
// their relative order when others come or go.
std::vector<int64_t> DatasetOrder(const std::vector<LedgerEntry>& entries,
                                  uint64_t seed);

}  // namespace sinklora::curator

#endif  // SINKLORA_SERVICES_CURATOR_RECORD_SCAN_H_
