// The values the curator's core works with: sources, recipes, datasets,
// examples. Plain data, free of protobuf, so that the core is testable (and
// checkable by ThreadSanitizer) without gRPC. The meaning of each field is that
// of its namesake in sinklora/curator/v1/curator_service.proto.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CURATOR_TYPES_H_
#define SINKLORA_SERVICES_CURATOR_TYPES_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace sinklora::curator {

enum class SourceFormat { kUnspecified, kPlainText, kInstruction };
enum class Builder { kUnspecified, kPackedText, kInstruction };
enum class Split { kTrain, kValidation };

// Polled between steps; true stops the work with kCancelled.
using CancelledFn = std::function<bool()>;
// Stage ("read", "deduplicate", "tokenize", "pack", "write"), records done and
// records in all. Always called on the thread that called the core.
using ProgressFn = std::function<void(const char* stage, int64_t done_records,
                                      int64_t total_records)>;

// The shortest last example worth keeping, and the shortest context.
inline constexpr int64_t kMinExampleTokens = 16;
inline constexpr int64_t kMaxContextTokens = 1048576;
inline constexpr int64_t kMaxRecipeSources = 100;
inline constexpr double kDefaultValidationFraction = 0.05;
inline constexpr double kMaxValidationFraction = 0.5;

struct StoredFile {
  std::string path;  // relative to the artefact's root
  int64_t size_bytes = 0;
  std::string sha256;
  bool operator==(const StoredFile&) const = default;
};

struct SourceInfo {
  std::string name;
  std::string digest;
  SourceFormat format = SourceFormat::kUnspecified;
  int64_t record_count = 0;
  int64_t text_bytes = 0;
  std::vector<StoredFile> files;
  int64_t create_time_micros = 0;  // since the Unix epoch
};

struct Recipe {
  std::vector<std::string> sources;
  Builder builder = Builder::kUnspecified;
  std::string tokenizer_model;
  int64_t context_tokens = 0;
  std::optional<double> validation_fraction;
  uint64_t seed = 0;
  std::string chat_template;
  int64_t min_document_bytes = 0;
  std::string system_prompt;
  bool operator==(const Recipe&) const = default;
};

struct Counts {
  int64_t input_records = 0;
  int64_t kept_records = 0;
  std::map<std::string, int64_t> rejected_records;  // by reason, all reasons
  int64_t train_examples = 0;
  int64_t validation_examples = 0;
  int64_t train_tokens = 0;
  int64_t validation_tokens = 0;
  int64_t train_supervised_tokens = 0;
  int64_t train_text_bytes = 0;
  // Only in the manifest, not in the API.
  int64_t truncated_records = 0;  // instruction records cut at the context
  int64_t dropped_tokens = 0;  // cut off there, or in a too short last example
};

struct DatasetInfo {
  std::string name;
  std::string digest;
  Recipe recipe;  // every default resolved
  std::vector<std::string> source_digests;
  std::string tokenizer_digest;
  // Ids put around documents; they come from files beside the tokenizer's.
  std::optional<int32_t> begin_token_id;
  std::optional<int32_t> end_token_id;
  // Key of the tokenizer's files in the cache; see tokenizer_cache.h.
  std::string tokenizer_files_digest;
  Counts counts;
  int64_t create_time_micros = 0;
};

struct TrainingExample {
  std::vector<int32_t> token_ids;
  std::vector<uint8_t> supervised;  // 1 where the token is a target
  std::vector<int64_t> document_tokens;
  bool operator==(const TrainingExample&) const = default;
};

}  // namespace sinklora::curator

#endif  // SINKLORA_SERVICES_CURATOR_TYPES_H_
