// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <utility>
#include <vector>

#include "common/model/internal/sequence_impl.h"

namespace sinklora {
namespace internal {
namespace {

class BatchDecoderImpl : public BatchDecoder {
 public:
  std::vector<absl::Status> Decode(std::span<Sequence* const> sequences,
                                   std::span<const int32_t> tokens) override;

 private:
  SequenceImpl::DecodeMemory memory_;
};

std::vector<absl::Status> BatchDecoderImpl::Decode(
    std::span<Sequence* const> sequences, std::span<const int32_t> tokens) {
  std::vector<absl::Status> out(sequences.size());
  std::vector<size_t> left;
  for (size_t i = 0; i < sequences.size(); ++i) {
    out[i] = static_cast<SequenceImpl*>(sequences[i])->CheckDecode(tokens[i]);
    if (out[i].ok()) left.push_back(i);
  }
  while (!left.empty()) {
    const auto* first = static_cast<SequenceImpl*>(sequences[left[0]]);
    std::vector<size_t> later, taken;
    std::vector<SequenceImpl*> rows;
    std::vector<int32_t> row_tokens;
    for (const size_t i : left) {
      auto* sequence = static_cast<SequenceImpl*>(sequences[i]);
      if (!SequenceImpl::CanShareBatch(*first, *sequence)) {
        later.push_back(i);
        continue;
      }
      taken.push_back(i);
      rows.push_back(sequence);
      row_tokens.push_back(tokens[i]);
    }
    std::vector<absl::Status> outcomes(rows.size());
    SequenceImpl::DecodeRows(rows, row_tokens, &memory_, outcomes);
    for (size_t r = 0; r < taken.size(); ++r) {
      out[taken[r]] = std::move(outcomes[r]);
    }
    left = std::move(later);
  }
  return out;
}

}  // namespace
}  // namespace internal

std::unique_ptr<BatchDecoder> BatchDecoder::Create() {
  return std::make_unique<internal::BatchDecoderImpl>();
}

}  // namespace sinklora
