// A decoded token: of one sequence, or of several that share their weights and
// so read them once.
//
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "common/model/internal/sequence_impl.h"

namespace sinklora {
namespace internal {

using kernels::ConstTensorView;
using kernels::DType;
using kernels::TensorView;

namespace {

// Row `row` of x [rows, n * head_dim] as [n, head_dim].
TensorView RowHeads(const TensorView& x, int64_t row, int64_t head_dim) {
  return TensorView(x.Rows(row, 1).data, x.dtype,
                    {x.shape[1] / head_dim, head_dim});
}

}  // namespace

absl::Status SequenceImpl::CheckDecode(int32_t token) const {
  if (!decoding_) {
    return absl::FailedPreconditionError(
        "prefill of the sequence has not ended");
  }
  return CheckTokens({&token, 1});
}

absl::Status SequenceImpl::Decode(int32_t token) {
  SL_RETURN_IF_ERROR(CheckDecode(token));
  SequenceImpl* const self = this;
  absl::Status outcome;
  DecodeRows({&self, 1}, {&token, 1}, &arena_, {&outcome, 1});
  return outcome;
}

void SequenceImpl::DecodeRows(std::span<SequenceImpl* const> rows,
                              std::span<const int32_t> tokens, Arena* arena,
                              std::span<absl::Status> outcomes) {
  std::fill(outcomes.begin(), outcomes.end(), absl::OkStatus());
  const absl::Status shared = RunRows(rows, tokens, arena, outcomes);
  for (size_t i = 0; i < rows.size(); ++i) {
    outcomes[i].Update(shared);
    rows[i]->Settle(outcomes[i]).IgnoreError();  // outcomes[i] again
  }
}

absl::Status SequenceImpl::AttendRow(int64_t layer, int64_t row,
                                     const Chunk& chunk) {
  const LlamaConfig& config = model_->config();
  const LayerActivations& a = chunk.layer;
  SL_RETURN_IF_ERROR(
      cache_.Write(layer, SplitHeads(a.k.Rows(row, 1), config.head_dim),
                   SplitHeads(a.v.Rows(row, 1), config.head_dim)));
  return cache_.Decode(layer, RowHeads(a.q, row, config.head_dim),
                       AttentionScale(config),
                       RowHeads(a.attention, row, config.head_dim));
}

// Returns what fails for all rows; what fails for one goes to its outcome, and
// its row is computed on with whatever it holds, since rows do not mix.
absl::Status SequenceImpl::RunRows(std::span<SequenceImpl* const> rows,
                                   std::span<const int32_t> tokens,
                                   Arena* arena,
                                   std::span<absl::Status> outcomes) {
  const ServedModelImpl& model = *rows[0]->model_;
  const LlamaConfig& config = model.config();
  kernels::Backend* backend = model.base().backend();
  const auto count = static_cast<int64_t>(rows.size());
  SL_ASSIGN_OR_RETURN(Chunk chunk, Chunk::Reserve(model, count, count, arena));
  chunk.layer.lse = TensorView();
  const auto for_each = [&](auto part) {
    for (int64_t r = 0; r < count; ++r) {
      if (outcomes[r].ok()) outcomes[r].Update(part(rows[r], r));
    }
  };
  std::vector<int32_t> positions;
  for (const SequenceImpl* row : rows) {
    positions.push_back(static_cast<int32_t>(row->position_));
  }
  SL_RETURN_IF_ERROR(Upload(backend, positions, chunk.positions));
  SL_RETURN_IF_ERROR(Upload(backend, tokens, chunk.ids));
  SL_RETURN_IF_ERROR(LookUpRows(backend, model.weights().embedding, chunk.ids,
                                chunk.residual[0]));
  for_each([](SequenceImpl* row, int64_t) {
    return row->cache_.NextChunk(row->position_, 1);
  });
  const Graph graph = model.graph(*rows[0]->rope_, DType::kF32);
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const LayerWeights& w = model.weights().layers[i];
    const TensorView& x = chunk.residual[i % 2];
    SL_RETURN_IF_ERROR(
        ForwardQkv(graph, w, x, chunk.positions, chunk.lora, chunk.layer));
    for_each([&](SequenceImpl* row, int64_t r) {
      return row->AttendRow(i, r, chunk);
    });
    SL_RETURN_IF_ERROR(ForwardMlp(graph, w, x, chunk.lora, chunk.layer,
                                  chunk.residual[(i + 1) % 2]));
  }
  SL_ASSIGN_OR_RETURN(
      const std::vector<float> logits,
      Head(model, chunk.residual[config.num_layers % 2], chunk));
  for_each([&](SequenceImpl* row, int64_t r) {
    ++row->position_;
    const auto first = logits.begin() + r * config.vocab_size;
    row->logits_.assign(first, first + config.vocab_size);
    return row->cache_.EndStep();
  });
  return absl::OkStatus();
}

class BatchDecoderImpl : public BatchDecoder {
 public:
  std::vector<absl::Status> Decode(std::span<Sequence* const> sequences,
                                   std::span<const int32_t> tokens) override;

 private:
  Arena arena_;
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
    SequenceImpl::DecodeRows(rows, row_tokens, &arena_, outcomes);
    for (size_t r = 0; r < taken.size(); ++r) {
      out[taken[r]] = std::move(outcomes[r]);
    }
    left = std::move(later);
  }
  return out;
}

}  // namespace internal

std::unique_ptr<BatchDecoder> BatchDecoder::Create() {
  return std::make_unique<internal::BatchDecoderImpl>();
}

}  // namespace sinklora
