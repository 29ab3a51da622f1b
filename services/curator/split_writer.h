// The examples of one split on their way into its file, and what became of the
// documents on that way. Not thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CURATOR_SPLIT_WRITER_H_
#define SINKLORA_SERVICES_CURATOR_SPLIT_WRITER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/curator/example_file.h"
#include "services/curator/ledger.h"
#include "services/curator/packer.h"
#include "services/curator/record_encoder.h"
#include "services/curator/types.h"

namespace sinklora::curator {

class SplitWriter {
 public:
  // Borrows `encoder` and `entries`, whose tokens, dropped_tokens and reason it
  // fills in.
  static absl::StatusOr<std::unique_ptr<SplitWriter>> Create(
      const std::string& path, const Recipe& recipe,
      const RecordEncoder* encoder, std::vector<LedgerEntry>* entries);

  // Adds the document or record of entries[position].
  absl::Status Add(int64_t position, const EncodedRecord& encoded);
  // Completes the file; its size and SHA-256 come back, path empty.
  absl::StatusOr<StoredFile> Finish();

  int64_t example_count() const { return writer_->example_count(); }
  int64_t token_count() const { return writer_->token_count(); }
  int64_t supervised_count() const { return writer_->supervised_count(); }
  // Bytes of text behind the tokens in the file; final after Finish.
  int64_t text_bytes() const { return text_bytes_; }

 private:
  SplitWriter(Builder builder, int64_t context_tokens,
              const RecordEncoder* encoder, std::vector<LedgerEntry>* entries,
              std::unique_ptr<ExampleWriter> writer);
  LedgerEntry& entry(int64_t position) {
    return (*entries_)[static_cast<size_t>(position)];
  }

  const Builder builder_;
  const RecordEncoder* const encoder_;
  std::vector<LedgerEntry>* const entries_;
  const std::unique_ptr<ExampleWriter> writer_;
  Packer packer_;
  int64_t text_bytes_ = 0;
};

}  // namespace sinklora::curator

#endif  // SINKLORA_SERVICES_CURATOR_SPLIT_WRITER_H_
