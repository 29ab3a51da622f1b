// SPDX-License-Identifier: Apache-2.0
#include "services/curator/dataset_builder.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/base/files.h"
#include "common/base/hash.h"
#include "common/base/status.h"
#include "nlohmann/json.hpp"
#include "services/curator/ledger.h"
#include "services/curator/metadata_json.h"
#include "services/curator/parallel.h"
#include "services/curator/record_encoder.h"
#include "services/curator/record_scan.h"
#include "services/curator/split_writer.h"

namespace sinklora::curator {
namespace {

using nlohmann::json;

// Documents tokenised before they are packed: bounds memory.
constexpr int64_t kWindowRecords = 256;
constexpr int64_t kWindowTextBytes = int64_t{64} << 20;

// The state of one BuildDataset call.
class Build {
 public:
  Build(const BuildInput& input, RecordEncoder encoder, std::string directory)
      : input_(input),
        encoder_(std::move(encoder)),
        directory_(std::move(directory)) {}

  absl::StatusOr<BuiltDataset> Run();

 private:
  absl::Status Scan();
  absl::Status WriteExamples();
  // End of the window of order_ that begins at `begin`.
  size_t WindowEnd(size_t begin) const;
  absl::StatusOr<EncodedRecord> Encode(const LedgerEntry& entry) const;
  absl::Status FinishSplit(SplitWriter* writer, const char* file);
  absl::Status CheckNotEmpty() const;
  absl::StatusOr<std::string> WriteManifest();
  absl::StatusOr<std::unique_ptr<SplitWriter>> OpenSplit(const char* file) {
    return SplitWriter::Create(JoinPath(directory_, file), input_.recipe,
                               &encoder_, &entries_);
  }

  const BuildInput& input_;
  const RecordEncoder encoder_;
  const std::string directory_;
  std::vector<LedgerEntry> entries_;
  std::vector<int64_t> order_;  // positions in entries_
  Counts counts_;
  json files_ = json::object();
};

absl::Status Build::Scan() {
  SL_ASSIGN_OR_RETURN(entries_,
                      ScanRecords(input_.sources, input_.recipe, input_.threads,
                                  input_.cancelled, input_.progress));
  RejectDuplicates(&entries_);
  const auto total = static_cast<int64_t>(entries_.size());
  input_.progress("deduplicate", total, total);
  for (LedgerEntry& entry : entries_) {
    entry.split = SplitOf(entry.content_sha256, input_.recipe.seed,
                          *input_.recipe.validation_fraction);
  }
  order_ = DatasetOrder(entries_, input_.recipe.seed);
  return absl::OkStatus();
}

size_t Build::WindowEnd(size_t begin) const {
  int64_t text_bytes = 0;
  size_t end = begin;
  while (end < order_.size() && end - begin < kWindowRecords &&
         (end == begin || text_bytes < kWindowTextBytes)) {
    text_bytes += entries_[static_cast<size_t>(order_[end])].text_bytes;
    ++end;
  }
  return end;
}

absl::StatusOr<EncodedRecord> Build::Encode(const LedgerEntry& entry) const {
  SL_ASSIGN_OR_RETURN(
      const Record record,
      input_.sources[static_cast<size_t>(entry.source)]->Read(entry.record));
  return encoder_.Encode(record);
}

absl::Status Build::WriteExamples() {
  SL_ASSIGN_OR_RETURN(const auto train, OpenSplit(kTrainFile));
  SL_ASSIGN_OR_RETURN(const auto validation, OpenSplit(kValidationFile));
  const auto total = static_cast<int64_t>(order_.size());
  for (size_t begin = 0, end; begin < order_.size(); begin = end) {
    end = WindowEnd(begin);
    std::vector<EncodedRecord> window(end - begin);
    SL_RETURN_IF_ERROR(ParallelFor(
        input_.threads, static_cast<int64_t>(window.size()), [&](int64_t i) {
          if (input_.cancelled()) {
            return absl::CancelledError("curation was cancelled");
          }
          const auto slot = static_cast<size_t>(i);
          const auto position = static_cast<size_t>(order_[begin + slot]);
          auto encoded = Encode(entries_[position]);
          if (encoded.ok()) window[slot] = *std::move(encoded);
          return encoded.status();
        }));
    for (size_t i = 0; i < window.size(); ++i) {
      const int64_t position = order_[begin + i];
      SplitWriter* split =
          entries_[static_cast<size_t>(position)].split == Split::kTrain
              ? train.get()
              : validation.get();
      SL_RETURN_IF_ERROR(split->Add(position, window[i]));
    }
    input_.progress("tokenize", static_cast<int64_t>(end), total);
  }
  SL_RETURN_IF_ERROR(FinishSplit(train.get(), kTrainFile));
  SL_RETURN_IF_ERROR(FinishSplit(validation.get(), kValidationFile));
  counts_ = CountRecords(entries_);
  counts_.train_examples = train->example_count();
  counts_.train_tokens = train->token_count();
  counts_.train_supervised_tokens = train->supervised_count();
  counts_.train_text_bytes = train->text_bytes();
  counts_.validation_examples = validation->example_count();
  counts_.validation_tokens = validation->token_count();
  if (input_.recipe.builder == Builder::kInstruction) {
    counts_.truncated_records = std::count_if(
        entries_.begin(), entries_.end(),
        [](const LedgerEntry& entry) { return entry.dropped_tokens > 0; });
  }
  input_.progress("pack", total, total);
  return absl::OkStatus();
}

absl::Status Build::FinishSplit(SplitWriter* writer, const char* file) {
  SL_ASSIGN_OR_RETURN(const StoredFile stored, writer->Finish());
  files_[file] = {{"size_bytes", stored.size_bytes}, {"sha256", stored.sha256}};
  return absl::OkStatus();
}

absl::Status Build::CheckNotEmpty() const {
  if (counts_.train_examples > 0) return absl::OkStatus();
  std::string reasons;
  for (const auto& [reason, records] : counts_.rejected_records) {
    reasons += fmt::format("{} {}, ", records, reason);
  }
  return MakeError(
      absl::StatusCode::kInvalidArgument,
      fmt::format("the recipe leaves no training example: of {} records, {}{} "
                  "kept with {} validation examples; at least 1 training "
                  "example is needed (context_tokens {}, validation_fraction "
                  "{}, min_document_bytes {})",
                  counts_.input_records, reasons, counts_.kept_records,
                  counts_.validation_examples, input_.recipe.context_tokens,
                  *input_.recipe.validation_fraction,
                  input_.recipe.min_document_bytes),
      {"EMPTY_DATASET",
       {{"input_records", std::to_string(counts_.input_records)},
        {"kept_records", std::to_string(counts_.kept_records)}}});
}

absl::StatusOr<std::string> Build::WriteManifest() {
  SL_ASSIGN_OR_RETURN(const StoredFile ledger,
                      WriteLedger(JoinPath(directory_, kLedgerFile),
                                  input_.recipe.sources, entries_));
  files_[kLedgerFile] = {{"size_bytes", ledger.size_bytes},
                         {"sha256", ledger.sha256}};
  const Tokenizer& tokenizer = *input_.tokenizer;
  const json manifest = {{"format", "sinklora-dataset"},
                         {"version", 1},
                         {"recipe", RecipeToJson(input_.recipe)},
                         {"source_digests", input_.source_digests},
                         {"tokenizer_digest", tokenizer.digest()},
                         {"begin_token_id", tokenizer.bos_id().has_value()
                                                ? json(*tokenizer.bos_id())
                                                : json(nullptr)},
                         {"end_token_id", tokenizer.eos_id().has_value()
                                              ? json(*tokenizer.eos_id())
                                              : json(nullptr)},
                         {"counts", CountsToJson(counts_)},
                         {"files", files_}};
  const std::string text = manifest.dump(2) + "\n";
  SL_RETURN_IF_ERROR(
      WriteFileAtomic(JoinPath(directory_, kManifestFile), text));
  return Sha256Hex(text);
}

absl::StatusOr<BuiltDataset> Build::Run() {
  SL_RETURN_IF_ERROR(Scan());
  SL_RETURN_IF_ERROR(WriteExamples());
  SL_RETURN_IF_ERROR(CheckNotEmpty());
  if (input_.cancelled()) {
    return absl::CancelledError("curation was cancelled");
  }
  SL_ASSIGN_OR_RETURN(std::string digest, WriteManifest());
  input_.progress("write", counts_.input_records, counts_.input_records);
  return BuiltDataset{std::move(digest), std::move(counts_)};
}

}  // namespace

absl::StatusOr<BuiltDataset> BuildDataset(const BuildInput& input,
                                          const std::string& directory) {
  SL_ASSIGN_OR_RETURN(RecordEncoder encoder,
                      RecordEncoder::Create(input.recipe, input.tokenizer));
  Build build(input, std::move(encoder), directory);
  return build.Run();
}

}  // namespace sinklora::curator
