// SPDX-License-Identifier: Apache-2.0
#include "common/model/internal/batch.h"

#include <fmt/format.h>

#include <numeric>

#include "common/base/status.h"

namespace sinklora::internal {
namespace {

// Small documents may be told to use full attention: a group twice as long as
// the document stays one group under the shift by half of it.
int64_t SegmentGroup(const AttentionOptions& options, int64_t example_tokens,
                     int64_t document_tokens) {
  if (document_tokens < options.full_below_tokens) {
    return 2 * document_tokens;
  }
  return GroupSize(options, example_tokens);
}

void AppendDocument(const TrainingExample& example, int64_t begin,
                    int64_t length, HostBatch* out) {
  for (int64_t i = 0; i < length; ++i) {
    const int64_t next = begin + i + 1;
    const bool labelled = i + 1 < length && example.supervised[next] != 0;
    out->ids.push_back(example.token_ids[begin + i]);
    out->positions.push_back(static_cast<int32_t>(i));
    out->labels.push_back(labelled ? example.token_ids[next] : -1);
    out->supervised_tokens += labelled ? 1 : 0;
  }
}

absl::Status CheckLength(const TrainingExample& example, int64_t index,
                         int64_t context_tokens) {
  const auto tokens = static_cast<int64_t>(example.token_ids.size());
  if (tokens > context_tokens) {
    return absl::InvalidArgumentError(fmt::format(
        "example {} has {} tokens, must have at most {} (context_tokens)",
        index, tokens, context_tokens));
  }
  if (example.supervised.size() != example.token_ids.size()) {
    return absl::InvalidArgumentError(
        fmt::format("example {}: supervised has {} entries, must have {} (one "
                    "a token)",
                    index, example.supervised.size(), tokens));
  }
  int64_t sum = 0;
  for (const int64_t length : example.document_tokens) {
    if (length < 1 || length > tokens - sum) {
      return absl::InvalidArgumentError(fmt::format(
          "example {}: document_tokens has a document of {} tokens, must be "
          "in [1, {}]",
          index, length, tokens - sum));
    }
    sum += length;
  }
  if (sum == tokens) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format(
      "example {}: document_tokens sums to {}, must be {} (the tokens)", index,
      sum, tokens));
}

}  // namespace

int64_t SinkTokens(const AttentionOptions& options) {
  const bool sinks = options.pattern == PatternKind::kSf ||
                     options.pattern == PatternKind::kS2Sinks;
  return sinks ? options.sink_tokens : 0;
}

std::vector<int64_t> HostBatch::document_tokens() const {
  std::vector<int64_t> out;
  for (const kernels::AttentionSegment& s : pattern.segments) {
    out.push_back(s.length);
  }
  return out;
}

HostBatch BuildBatch(std::span<const TrainingExample> examples,
                     const AttentionOptions& options, int64_t num_heads) {
  HostBatch out;
  out.pattern.shifted_heads = ShiftedHeads(options, num_heads);
  out.pattern.sink_tokens = SinkTokens(options);
  for (const TrainingExample& example : examples) {
    const auto tokens = static_cast<int64_t>(example.token_ids.size());
    int64_t begin = 0;
    for (const int64_t length : example.document_tokens) {
      out.pattern.segments.push_back(
          {out.tokens(), length, SegmentGroup(options, tokens, length)});
      AppendDocument(example, begin, length, &out);
      begin += length;
    }
  }
  return out;
}

int64_t SupervisedTokens(const TrainingExample& example) {
  int64_t count = 0;
  int64_t begin = 0;
  for (const int64_t length : example.document_tokens) {
    for (int64_t i = 1; i < length; ++i) {
      count += example.supervised[begin + i] != 0 ? 1 : 0;
    }
    begin += length;
  }
  return count;
}

absl::Status CheckExample(const TrainingExample& example, int64_t index,
                          int64_t vocab_size, int64_t context_tokens) {
  SL_RETURN_IF_ERROR(CheckLength(example, index, context_tokens));
  for (size_t i = 0; i < example.token_ids.size(); ++i) {
    const int32_t id = example.token_ids[i];
    if (id < 0 || id >= vocab_size) {
      return absl::InvalidArgumentError(
          fmt::format("example {}: token_ids[{}] is {}, must be in [0, {})",
                      index, i, id, vocab_size));
    }
  }
  if (SupervisedTokens(example) > 0) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format(
      "example {} has no supervised token that follows another token of its "
      "document, must have at least 1",
      index));
}

}  // namespace sinklora::internal
