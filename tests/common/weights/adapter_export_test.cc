// SPDX-License-Identifier: Apache-2.0
#include "common/weights/adapter_export.h"

#include <cmath>

#include "common/base/files.h"
#include "common/base/random.h"
#include "common/weights/model_files.h"
#include "common/weights/peft_names.h"
#include "nlohmann/json.hpp"
#include "tests/testing/matchers.h"
#include "tests/testing/tiny_model/tiny_model.h"

namespace sinklora {
namespace {

using ::nlohmann::json;
using ::sinklora::testing::StatusIs;
using ::sinklora::testing::TinyModelOptions;
using ::sinklora::testing::WriteTinyModel;
using ::testing::HasSubstr;

HostTensor RandomTensor(std::vector<int64_t> shape, double centre,
                        uint64_t stream) {
  int64_t n = 1;
  for (int64_t dim : shape) n *= dim;
  const CounterRng rng(13, stream);
  std::vector<float> values;
  for (int64_t i = 0; i < n; ++i) {
    values.push_back(static_cast<float>(centre + 0.2 * rng.Normal(i)));
  }
  return HostTensor::FromF32(std::move(shape), values);
}

// LoRA (ranks 4 and 2) on three projections, tuned embedding and norms.
PeftAdapter MakeAdapter(const LlamaConfig& base, bool dora) {
  PeftAdapter adapter;
  adapter.base_model = "tiny";
  adapter.rank = 4;
  adapter.lora_alpha = 6;
  adapter.use_rslora = true;
  adapter.use_dora = dora;
  adapter.rank_pattern = {{"down_proj", 2}};
  adapter.alpha_pattern = {{"1.self_attn.v_proj", 3}};
  adapter.target_modules.names = {"q_proj", "v_proj", "down_proj"};
  adapter.modules_to_save = {"embed_tokens", "norm"};
  adapter.context_tokens = 256;
  adapter.rope_factor = 4;
  uint64_t stream = 0;
  for (const auto& [name, shape] : LlamaTensors(base)) {
    const std::string module = ModuleOfTensor(name);
    for (const std::string& target : adapter.target_modules.names) {
      if (!module.ends_with("." + target)) continue;
      const int64_t rank = target == "down_proj" ? 2 : 4;
      adapter.lora_a[module] = RandomTensor({rank, shape[1]}, 0, ++stream);
      adapter.lora_b[module] = RandomTensor({shape[0], rank}, 0, ++stream);
      if (dora) {
        adapter.lora_magnitude[module] = RandomTensor({shape[0]}, 1, ++stream);
      }
    }
    if (module.ends_with("norm") || module.ends_with("embed_tokens")) {
      adapter.full[name] = RandomTensor(shape, 1, ++stream);
    }
  }
  return adapter;
}

// The definition, in double.
std::vector<double> Merged(const ModelFiles& base, const PeftAdapter& adapter,
                           const std::string& name,
                           const std::vector<int64_t>& shape) {
  const std::string module = ModuleOfTensor(name);
  if (adapter.full.contains(name)) {
    const auto values = adapter.full.at(name).ToFloats().value();
    return {values.begin(), values.end()};
  }
  const auto values = ToF32(*base.tensor(name)).value();
  std::vector<double> out(values.begin(), values.end());
  if (!adapter.lora_a.contains(module)) return out;
  const auto a = adapter.lora_a.at(module).ToFloats().value();
  const auto b = adapter.lora_b.at(module).ToFloats().value();
  const int64_t rank = module.ends_with("down_proj") ? 2 : 4;
  const double alpha = module.ends_with("1.self_attn.v_proj") ? 3 : 6;
  for (int64_t o = 0; o < shape[0]; ++o) {
    double squares = 0;
    for (int64_t i = 0; i < shape[1]; ++i) {
      double sum = 0;
      for (int64_t r = 0; r < rank; ++r) {
        sum += static_cast<double>(b[o * rank + r]) * a[r * shape[1] + i];
      }
      double& x = out[o * shape[1] + i];
      x += alpha / std::sqrt(static_cast<double>(rank)) * sum;
      squares += x * x;
    }
    if (!adapter.use_dora) continue;
    const double m = adapter.lora_magnitude.at(module).ToFloats().value()[o];
    for (int64_t i = 0; i < shape[1]; ++i) {
      out[o * shape[1] + i] *= m / std::sqrt(squares);
    }
  }
  return out;
}

class AdapterExportTest : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(temp_, TempDir::Create());
    base_ = JoinPath(temp_->path(), "base");
    out_ = JoinPath(temp_->path(), "out");
    adapter_out_ = JoinPath(temp_->path(), "adapter");
    options_.tied = false;
    WriteBase();
  }
  void WriteBase() {
    ASSERT_OK(WriteTinyModel(base_, options_));
    const auto config = testing::TinyModelConfig(options_);
    adapter_ = MakeAdapter(config, GetParam());
  }
  std::string Text(const char* file) {
    return ReadFile(JoinPath(out_, file)).value_or("");
  }
  std::unique_ptr<TempDir> temp_;
  std::string base_, out_, adapter_out_;
  TinyModelOptions options_;
  PeftAdapter adapter_;
};

INSTANTIATE_TEST_SUITE_P(LoraAndDora, AdapterExportTest, ::testing::Bool());

TEST_P(AdapterExportTest, MergeIsTheDefinition) {
  ASSERT_OK(MergeAdapter(base_, adapter_, out_));
  ASSERT_OK_AND_ASSIGN(const auto base, ModelFiles::Open(base_));
  ASSERT_OK_AND_ASSIGN(const auto merged, ModelFiles::Open(out_));
  for (const auto& [name, shape] : LlamaTensors(base->config())) {
    EXPECT_EQ(merged->tensor(name)->dtype, FileDType::kBF16);
    // Half a unit of bf16's last place, and f32's own rounding.
    EXPECT_TRUE(testing::AllClose(ToF32(*merged->tensor(name)).value(),
                                  Merged(*base, adapter_, name, shape), 1e-6,
                                  1.0 / 256 + 1e-5))
        << name;
  }
}

TEST_P(AdapterExportTest, ConfigAndFilesAreCarried) {
  ASSERT_OK(WriteFileAtomic(JoinPath(base_, "generation_config.json"),
                            R"({"temperature": 0.6})"));
  ASSERT_OK(
      WriteFileAtomic(JoinPath(base_, "tokenizer_config.json"),
                      R"({"model_max_length": 64, "bos_token": "<|begin|>"})"));
  ASSERT_OK(MergeAdapter(base_, adapter_, out_));
  const json config = json::parse(Text("config.json"));
  EXPECT_EQ(config["max_position_embeddings"], 64);
  EXPECT_EQ(config["rope_scaling"]["rope_type"], "linear");
  EXPECT_EQ(config["rope_scaling"]["factor"], 4);
  EXPECT_EQ(config["torch_dtype"], "bfloat16");
  ASSERT_OK_AND_ASSIGN(const auto merged, ModelFiles::Open(out_));
  EXPECT_EQ(merged->config().context_tokens(), 256);
  EXPECT_EQ(Text("generation_config.json"), R"({"temperature": 0.6})");
  EXPECT_EQ(Text("tokenizer.json"),
            ReadFile(JoinPath(base_, "tokenizer.json")).value());
  const json tokenizer = json::parse(Text("tokenizer_config.json"));
  EXPECT_EQ(tokenizer["model_max_length"], 256);
  EXPECT_EQ(tokenizer["bos_token"], "<|begin|>");
}

TEST_P(AdapterExportTest, LargeModelsAreSharded) {
  ASSERT_OK(MergeAdapter(base_, adapter_, out_));
  const std::string sharded = JoinPath(temp_->path(), "sharded");
  ASSERT_OK(MergeAdapter(base_, adapter_, sharded, 30000));
  EXPECT_FALSE(FileExists(JoinPath(sharded, "model.safetensors")));
  const json index = json::parse(
      ReadFile(JoinPath(sharded, "model.safetensors.index.json")).value());
  ASSERT_OK_AND_ASSIGN(const auto one, ModelFiles::Open(out_));
  ASSERT_OK_AND_ASSIGN(const auto many, ModelFiles::Open(sharded));
  EXPECT_EQ(index["weight_map"].size(), one->tensor_names().size());
  for (const std::string& name : one->tensor_names()) {
    EXPECT_TRUE(one->tensor(name)->bytes == many->tensor(name)->bytes) << name;
  }
}

TEST_P(AdapterExportTest, SplitHasLoraAloneAndTheTunedBase) {
  adapter_.base_model = "tiny-tuned";
  ASSERT_OK(WriteSplitAdapter(base_, adapter_, adapter_out_, out_));
  ASSERT_OK_AND_ASSIGN(const auto base, ModelFiles::Open(base_));
  ASSERT_OK_AND_ASSIGN(const auto tuned, ModelFiles::Open(out_));
  EXPECT_EQ(tuned->config().context_tokens(), 256);
  for (const auto& [name, shape] : LlamaTensors(base->config())) {
    const auto want = adapter_.full.contains(name)
                          ? adapter_.full.at(name).ToFloats().value()
                          : ToF32(*base->tensor(name)).value();
    EXPECT_TRUE(testing::AllClose(ToF32(*tuned->tensor(name)).value(), want, 0,
                                  1.0 / 256))
        << name;
  }
  ASSERT_OK_AND_ASSIGN(const PeftAdapter lora,
                       ReadPeftAdapter(adapter_out_, tuned->config()));
  EXPECT_EQ(lora.base_model, "tiny-tuned");
  EXPECT_TRUE(lora.full.empty());
  EXPECT_TRUE(lora.modules_to_save.empty());
  EXPECT_TRUE(lora.lora_a == adapter_.lora_a);
  EXPECT_TRUE(lora.lora_b == adapter_.lora_b);
  EXPECT_TRUE(lora.lora_magnitude == adapter_.lora_magnitude);
  EXPECT_EQ(lora.context_tokens, 256);
  EXPECT_EQ(lora.rope_factor, tuned->config().rope_factor);
}

// modules_to_save kept layer 0's q_proj from LoRA; without it, target_modules
// would select it.
TEST_P(AdapterExportTest, SplitNamesWhatSavedModulesHid) {
  const std::string hidden = "model.layers.0.self_attn.q_proj";
  adapter_.lora_a.erase(hidden);
  adapter_.lora_b.erase(hidden);
  adapter_.lora_magnitude.erase(hidden);
  adapter_.full[hidden + ".weight"] = RandomTensor({32, 32}, 0, 77);
  adapter_.modules_to_save.push_back("model.layers.0.self_attn.q_proj");
  ASSERT_OK(WriteSplitAdapter(base_, adapter_, adapter_out_, out_));
  ASSERT_OK_AND_ASSIGN(const auto tuned, ModelFiles::Open(out_));
  ASSERT_OK_AND_ASSIGN(const PeftAdapter lora,
                       ReadPeftAdapter(adapter_out_, tuned->config()));
  EXPECT_TRUE(lora.lora_a == adapter_.lora_a);
}

TEST_P(AdapterExportTest, TiedBaseStaysTiedOnlyWhenHeadAndEmbeddingAreOne) {
  options_.tied = true;
  WriteBase();
  const auto tied = [&](const PeftAdapter& adapter) {
    const std::string out = JoinPath(temp_->path(), "tied");
    EXPECT_OK(RemoveAll(out));
    EXPECT_OK(MergeAdapter(base_, adapter, out));
    auto files = ModelFiles::Open(out);
    EXPECT_OK(files);
    const bool result = (*files)->config().tie_word_embeddings;
    EXPECT_EQ((*files)->tensor("lm_head.weight").ok(), !result);
    if (!result) {
      const auto want = adapter.full.contains("lm_head.weight")
                            ? adapter.full.at("lm_head.weight").ToFloats()
                            : ToF32(*(*ModelFiles::Open(base_))
                                         ->tensor("model.embed_tokens.weight"));
      EXPECT_TRUE(
          testing::AllClose(ToF32(*(*files)->tensor("lm_head.weight")).value(),
                            *want, 0, 1.0 / 256));
    }
    return result;
  };
  PeftAdapter adapter = adapter_;
  EXPECT_FALSE(tied(adapter));  // the embedding moved, the head did not
  adapter.modules_to_save.push_back("lm_head");
  adapter.full["lm_head.weight"] = adapter.full["model.embed_tokens.weight"];
  EXPECT_TRUE(tied(adapter));
  adapter.full["lm_head.weight"] = RandomTensor({320, 32}, 0, 5);
  EXPECT_FALSE(tied(adapter));
  adapter.full.erase("lm_head.weight");
  adapter.full.erase("model.embed_tokens.weight");
  adapter.modules_to_save = {"norm"};
  EXPECT_TRUE(tied(adapter));
}

TEST_P(AdapterExportTest, KeepsTheBasesContextWhenTheAdapterHasNone) {
  options_.rope_factor = 2;
  WriteBase();
  adapter_.context_tokens = 0;
  adapter_.rope_factor = 1;
  ASSERT_OK(MergeAdapter(base_, adapter_, out_));
  EXPECT_EQ(ModelFiles::Open(out_)->get()->config().rope_factor, 2);
}

TEST_P(AdapterExportTest, AnotherBaseIsRefusedAndNothingIsWritten) {
  options_.layers = 3;
  ASSERT_OK(WriteTinyModel(base_, options_));
  for (const absl::Status& status :
       {MergeAdapter(base_, adapter_, out_),
        WriteSplitAdapter(base_, adapter_, adapter_out_, out_)}) {
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kFailedPrecondition,
                                 HasSubstr("layers.2")));
  }
  EXPECT_FALSE(FileExists(out_));
  EXPECT_FALSE(FileExists(adapter_out_));
}

TEST_P(AdapterExportTest, ValuesThatBf16DoesNotHoldAreRefused) {
  std::vector<float> values(32, 1.0f);
  values[7] = 3.4e38f;
  adapter_.full["model.norm.weight"] = HostTensor::FromF32({32}, values);
  EXPECT_THAT(MergeAdapter(base_, adapter_, out_),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("'model.norm.weight'")));
  EXPECT_FALSE(FileExists(out_));
}

}  // namespace
}  // namespace sinklora
