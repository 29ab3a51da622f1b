// SPDX-License-Identifier: Apache-2.0
#include "tests/services/inference/sample_artifacts.h"

#include <fmt/format.h>

#include <cmath>
#include <utility>

#include "common/base/random.h"
#include "common/base/status.h"
#include "common/weights/peft_adapter.h"
#include "tests/testing/tiny_model/tiny_model.h"

namespace sinklora::inference {
namespace {

testing::TinyModelOptions TinyOptions(uint64_t seed) {
  testing::TinyModelOptions options;
  options.max_position_embeddings = kTinyContextTokens;
  // With a tied head a random model says its last token again and again.
  options.tied = false;
  options.seed = seed;
  return options;
}

HostTensor RandomMatrix(uint64_t stream, int64_t rows, int64_t columns,
                        float scale) {
  const CounterRng rng(7, stream);
  std::vector<float> values;
  for (int64_t i = 0; i < rows * columns; ++i) {
    values.push_back(scale * static_cast<float>(rng.Normal(i)));
  }
  return HostTensor::FromF32({rows, columns}, values);
}

// Large enough to change what the model says.
PeftAdapter TunedAdapter(const LlamaConfig& base) {
  PeftAdapter adapter;
  adapter.base_model = "tiny";
  adapter.rank = 4;
  adapter.lora_alpha = 8;
  adapter.target_modules.names = {"q_proj", "o_proj"};
  adapter.context_tokens = kTunedContextTokens;
  adapter.rope_factor =
      static_cast<double>(kTunedContextTokens) / kTinyContextTokens;
  const int64_t heads_width = base.num_heads * base.head_dim;
  uint64_t stream = 0;
  for (int64_t layer = 0; layer < base.num_layers; ++layer) {
    const std::string prefix = fmt::format("model.layers.{}.self_attn.", layer);
    adapter.lora_a[prefix + "q_proj"] =
        RandomMatrix(++stream, adapter.rank, base.hidden_size, 0.3f);
    adapter.lora_b[prefix + "q_proj"] =
        RandomMatrix(++stream, heads_width, adapter.rank, 0.3f);
    adapter.lora_a[prefix + "o_proj"] =
        RandomMatrix(++stream, adapter.rank, heads_width, 0.3f);
    adapter.lora_b[prefix + "o_proj"] =
        RandomMatrix(++stream, base.hidden_size, adapter.rank, 0.3f);
  }
  return adapter;
}

}  // namespace

absl::Status WriteTinyVariant(const std::string& directory, uint64_t seed) {
  return testing::WriteTinyModel(directory, TinyOptions(seed));
}

absl::StatusOr<SampleArtifacts> MakeSampleArtifacts() {
  SampleArtifacts sample;
  SL_ASSIGN_OR_RETURN(sample.directory, TempDir::Create());
  sample.source = std::make_unique<DirectorySource>();
  SL_RETURN_IF_ERROR(WriteTinyVariant(sample.Path("tiny"), 1));
  SL_RETURN_IF_ERROR(WriteTinyVariant(sample.Path("other"), 2));
  SL_RETURN_IF_ERROR(
      WritePeftAdapter(TunedAdapter(testing::TinyModelConfig(TinyOptions(1))),
                       sample.Path("tuned")));
  SL_RETURN_IF_ERROR(sample.source->AddModel("tiny", sample.Path("tiny")));
  SL_RETURN_IF_ERROR(sample.source->AddModel("other", sample.Path("other")));
  SL_RETURN_IF_ERROR(
      sample.source->AddAdapter("tuned", sample.Path("tuned"), "tiny"));
  return sample;
}

}  // namespace sinklora::inference
