// What the serving tests share: a served model over a small random base, and
// running a sequence to its end.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_COMMON_MODEL_SERVING_FIXTURE_H_
#define SINKLORA_TESTS_COMMON_MODEL_SERVING_FIXTURE_H_

#include <memory>
#include <utility>
#include <vector>

#include "common/model/inference_model.h"
#include "tests/common/model/model_fixture.h"

namespace sinklora {

inline ResolvedCache FullCache() {
  return {CachePolicyKind::kFull, 1 << 20, 1 << 20, 0, 0};
}
inline ResolvedCache H2oCache(int64_t recent, int64_t sinks, int64_t heavy) {
  return {CachePolicyKind::kH2o, recent + sinks + heavy, recent, sinks, heavy};
}

// A model served in this test. Members in the order of their destruction.
struct Served {
  std::unique_ptr<kernels::Backend> backend;
  ModelOnDisk disk;
  std::shared_ptr<BaseWeights> weights;
  std::shared_ptr<ServedModel> model;
};

inline Served ServeOn(std::unique_ptr<kernels::Backend> backend,
                      const LlamaConfig& config, uint64_t seed,
                      WeightType type = WeightType::kFloat32,
                      int64_t context_tokens = 0) {
  Served out;
  out.backend = std::move(backend);
  out.disk = MakeModel(config, seed, 0.3);
  auto weights = BaseWeights::Load(out.backend.get(), *out.disk.files, type);
  EXPECT_TRUE(weights.ok()) << weights.status();
  out.weights = *weights;
  auto model = ServedModel::Create(out.weights, nullptr, context_tokens);
  EXPECT_TRUE(model.ok()) << model.status();
  out.model = *model;
  return out;
}

inline Served Serve(const LlamaConfig& config, uint64_t seed,
                    WeightType type = WeightType::kFloat32,
                    int64_t context_tokens = 0,
                    const char* backend_name = "cpu") {
  return ServeOn(OpenTestBackend(backend_name), config, seed, type,
                 context_tokens);
}

// The logits after the prompt and after each decoded token, and what was kept
// then in [layer][kv head].
struct Trace {
  std::vector<std::vector<float>> logits;
  std::vector<std::vector<std::vector<int32_t>>>
      kept;  // [step][layer * kv_heads + head]
  CacheUsage usage_after_prefill;
  CacheUsage usage;
  bool operator==(const Trace& o) const {
    return logits == o.logits && kept == o.kept;
  }
};

inline std::unique_ptr<Sequence> NewSequence(const Served& served,
                                             const ResolvedCache& cache,
                                             int64_t max_tokens) {
  auto out = Sequence::Create(served.model, cache, max_tokens);
  EXPECT_TRUE(out.ok()) << out.status();
  return out.ok() ? std::move(*out) : nullptr;
}

inline void Record(const Served& served, const Sequence& sequence,
                   Trace* trace) {
  const auto logits = sequence.logits();
  EXPECT_OK(logits);
  trace->logits.push_back(logits.value_or(std::vector<float>()));
  auto& kept = trace->kept.emplace_back();
  for (int64_t l = 0; l < served.model->config().num_layers; ++l) {
    for (int64_t h = 0; h < served.model->config().num_kv_heads; ++h) {
      kept.push_back(sequence.KeptPositions(l, h));
    }
  }
}

// Prefills the first `prompt` tokens in pieces of `chunk`, decodes the rest.
inline Trace RunSequence(const Served& served, const ResolvedCache& cache,
                         const std::vector<int32_t>& tokens, int64_t prompt,
                         int64_t chunk) {
  Trace out;
  const auto total = static_cast<int64_t>(tokens.size());
  const auto sequence = NewSequence(served, cache, total);
  if (sequence == nullptr) return out;
  for (int64_t at = 0; at < prompt; at += chunk) {
    const int64_t n = std::min(chunk, prompt - at);
    EXPECT_OK(sequence->Prefill({tokens.data() + at, static_cast<size_t>(n)},
                                at + n == prompt));
  }
  Record(served, *sequence, &out);
  out.usage_after_prefill = sequence->usage();
  for (int64_t t = prompt; t < total; ++t) {
    EXPECT_OK(sequence->Decode(tokens[t]));
    Record(served, *sequence, &out);
  }
  EXPECT_EQ(sequence->position(), total);
  out.usage = sequence->usage();
  return out;
}

}  // namespace sinklora

#endif  // SINKLORA_TESTS_COMMON_MODEL_SERVING_FIXTURE_H_
