// SPDX-License-Identifier: Apache-2.0
#include "common/weights/peft_adapter.h"

#include <cmath>

#include "common/base/files.h"
#include "common/base/random.h"
#include "common/weights/model_files.h"
#include "kernels/tensor.h"
#include "nlohmann/json.hpp"
#include "tests/testing/matchers.h"
#include "tests/testing/tiny_model/tiny_model.h"

namespace sinklora {
namespace {

using ::nlohmann::json;
using ::sinklora::testing::StatusIs;
using ::sinklora::testing::TinyModelConfig;
using ::sinklora::testing::TinyModelOptions;
using ::sinklora::testing::WriteTinyModel;
using ::testing::AllOf;
using ::testing::HasSubstr;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

HostTensor RandomTensor(std::vector<int64_t> shape, uint64_t stream) {
  HostTensor tensor{std::move(shape), {}};
  int64_t n = 1;
  for (int64_t dim : tensor.shape) n *= dim;
  const CounterRng rng(11, stream);
  for (int64_t i = 0; i < n; ++i) {
    tensor.values.push_back(static_cast<float>(rng.Normal(i)));
  }
  return tensor;
}

PeftAdapter MakeAdapter(const LlamaConfig& base) {
  PeftAdapter adapter;
  adapter.base_model = "tiny";
  adapter.rank = 4;
  adapter.lora_alpha = 6;
  adapter.target_modules = {"q_proj", "v_proj", "down_proj"};
  adapter.context_tokens = 256;
  adapter.rope_factor = 4;
  uint64_t stream = 0;
  for (const auto& [name, shape] : LlamaTensors(base)) {
    for (const std::string& target : adapter.target_modules) {
      if (name.find("." + target + ".") == std::string::npos) continue;
      const std::string module = name.substr(0, name.rfind('.'));
      adapter.lora_a[module] = RandomTensor({4, shape[1]}, ++stream);
      adapter.lora_b[module] = RandomTensor({shape[0], 4}, ++stream);
    }
    if (name.find("norm") != std::string::npos ||
        name.find("embed") != std::string::npos) {
      adapter.full[name] = RandomTensor(shape, ++stream);
    }
  }
  return adapter;
}

void ExpectEqual(const std::map<std::string, HostTensor>& a,
                 const std::map<std::string, HostTensor>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [name, tensor] : a) {
    ASSERT_TRUE(b.contains(name)) << name;
    EXPECT_EQ(tensor.shape, b.at(name).shape) << name;
    EXPECT_TRUE(tensor.values == b.at(name).values) << name;
  }
}

class PeftAdapterTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(temp_, TempDir::Create());
    dir_ = JoinPath(temp_->path(), "adapter");
    base_ = TinyModelConfig({});
    adapter_ = MakeAdapter(base_);
    ASSERT_OK(WritePeftAdapter(adapter_, dir_));
  }
  std::string Config() {
    return ReadFile(JoinPath(dir_, "adapter_config.json")).value();
  }
  std::string Weights() {
    return ReadFile(JoinPath(dir_, "adapter_model.safetensors")).value();
  }
  std::unique_ptr<TempDir> temp_;
  std::string dir_;
  LlamaConfig base_;
  PeftAdapter adapter_;
};

TEST_F(PeftAdapterTest, RoundTripIsExact) {
  ASSERT_OK_AND_ASSIGN(const PeftAdapter read, ReadPeftAdapter(dir_, base_));
  EXPECT_EQ(read.base_model, "tiny");
  EXPECT_EQ(read.rank, 4);
  EXPECT_EQ(read.lora_alpha, 6);
  EXPECT_EQ(read.target_modules, adapter_.target_modules);
  EXPECT_EQ(read.context_tokens, 256);
  EXPECT_EQ(read.rope_factor, 4);
  ExpectEqual(read.lora_a, adapter_.lora_a);
  ExpectEqual(read.lora_b, adapter_.lora_b);
  ExpectEqual(read.full, adapter_.full);
  const std::string config = Config(), weights = Weights();
  ASSERT_OK(WritePeftAdapter(read, dir_));
  EXPECT_EQ(Config(), config);
  EXPECT_TRUE(Weights() == weights);
}

TEST_F(PeftAdapterTest, NamesAndKeysArePefts) {
  const json config = json::parse(Config());
  EXPECT_EQ(config["peft_type"], "LORA");
  EXPECT_EQ(config["task_type"], "CAUSAL_LM");
  EXPECT_EQ(config["r"], 4);
  EXPECT_EQ(config["lora_alpha"], 6);
  EXPECT_TRUE(config["lora_alpha"].is_number_integer());
  EXPECT_EQ(config["bias"], "none");
  EXPECT_EQ(config["modules_to_save"],
            (json{"embed_tokens", "input_layernorm", "post_attention_layernorm",
                  "norm"}));
  EXPECT_EQ(config["target_modules"], (json{"q_proj", "v_proj", "down_proj"}));
  ASSERT_OK_AND_ASSIGN(
      const auto file,
      SafetensorsFile::Open(JoinPath(dir_, "adapter_model.safetensors")));
  EXPECT_EQ(file->metadata().at("format"), "pt");
  const auto& tensors = file->tensors();
  const auto shape = [&](const std::string& name) {
    return tensors.contains(name) ? tensors.at(name).shape
                                  : std::vector<int64_t>{-1};
  };
  using Shape = std::vector<int64_t>;
  EXPECT_EQ(
      shape("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"),
      (Shape{4, 32}));
  EXPECT_EQ(
      shape("base_model.model.model.layers.1.mlp.down_proj.lora_B.weight"),
      (Shape{32, 4}));
  EXPECT_EQ(shape("base_model.model.model.embed_tokens.weight"),
            (Shape{320, 32}));
  EXPECT_EQ(shape("base_model.model.model.layers.1.input_layernorm.weight"),
            (Shape{32}));
  EXPECT_EQ(shape("base_model.model.model.norm.weight"), (Shape{32}));
  EXPECT_EQ(tensors.size(), 2u * 3 * 2 + 1 + 2 * 2 + 1);

  adapter_.full.clear();
  ASSERT_OK(WritePeftAdapter(adapter_, dir_));
  EXPECT_TRUE(json::parse(Config())["modules_to_save"].is_null());
}

TEST_F(PeftAdapterTest, ContextMayStandInTheTensorsAlone) {
  json config = json::parse(Config());
  config.erase("sinklora_context_tokens");
  config.erase("sinklora_rope_factor");
  const std::string path = JoinPath(dir_, "adapter_config.json");
  ASSERT_OK(WriteFileAtomic(path, config.dump()));
  ASSERT_OK_AND_ASSIGN(const PeftAdapter read, ReadPeftAdapter(dir_, base_));
  EXPECT_EQ(read.context_tokens, 256);
  EXPECT_EQ(read.rope_factor, 4);
  config["sinklora_context_tokens"] = 128;
  config["sinklora_rope_factor"] = 2;
  ASSERT_OK(WriteFileAtomic(path, config.dump()));
  EXPECT_THAT(ReadPeftAdapter(dir_, base_),
              StatusIs(kInvalid, HasSubstr("differ from 128")));
}

TEST_F(PeftAdapterTest, UnsupportedConfigurationsAreNamed) {
  struct Case {
    const char* key;
    json value;
    const char* message;
  };
  const Case cases[] = {
      {"use_dora", true, "use_dora true"},
      {"use_rslora", true, "use_rslora true"},
      {"rank_pattern", {{"q_proj", 8}}, "rank_pattern"},
      {"alpha_pattern", {{"q_proj", 8}}, "alpha_pattern"},
      {"bias", "all", "bias \"all\""},
      {"peft_type", "IA3", "peft_type \"IA3\""},
      {"peft_type", nullptr, "peft_type null"},
      {"layers_to_transform", {0}, "layers_to_transform"},
      {"target_modules", "all-linear", "target_modules \"all-linear\""},
      {"target_modules", {"lm_head"}, "'lm_head'"},
      {"target_modules", json::array(), "target_modules is empty"},
      {"modules_to_save", {"score"}, "modules_to_save \"score\""},
      {"r", 0, "r is 0"},
      {"r", 8, "the base needs [8, "},
      {"lora_alpha", "x", "lora_alpha"},
  };
  const json good = json::parse(Config());
  for (const Case& c : cases) {
    json config = good;
    config[c.key] = c.value;
    ASSERT_OK(
        WriteFileAtomic(JoinPath(dir_, "adapter_config.json"), config.dump()));
    EXPECT_THAT(
        ReadPeftAdapter(dir_, base_),
        StatusIs(kInvalid, AllOf(HasSubstr(dir_), HasSubstr(c.message))))
        << c.key;
  }
}

TEST_F(PeftAdapterTest, TensorsMustFitTheBase) {
  const auto expect = [&](const PeftAdapter& adapter, const char* message) {
    ASSERT_OK(WritePeftAdapter(adapter, dir_));
    EXPECT_THAT(ReadPeftAdapter(dir_, base_),
                StatusIs(kInvalid, HasSubstr(message)));
  };
  PeftAdapter adapter = adapter_;
  adapter.lora_b.erase("model.layers.1.mlp.down_proj");
  expect(adapter, "layers.1.mlp.down_proj.lora_B.weight' is missing");
  adapter = adapter_;
  adapter.lora_a["model.layers.9.mlp.down_proj"] = RandomTensor({4, 64}, 1);
  expect(adapter, "layers.9.mlp.down_proj.lora_A.weight' is not supported");
  adapter = adapter_;
  adapter.lora_a["model.layers.0.mlp.up_proj"] = RandomTensor({4, 32}, 1);
  expect(adapter, "up_proj.lora_A.weight' is not of the base's target");
  adapter = adapter_;
  adapter.full["model.embed_tokens.weight"] = RandomTensor({321, 32}, 1);
  expect(adapter, "has shape [321, 32], the base needs [320, 32]");
  adapter = adapter_;
  adapter.full["model.layers.0.self_attn.o_proj.weight"] =
      RandomTensor({32, 32}, 1);
  expect(adapter, "o_proj.weight' is not an embedding, norm or head");
  adapter = adapter_;
  adapter.full["model.norm.weight"].values[3] = NAN;
  expect(adapter, "norm.weight' has value nan at index 3");
}

TEST_F(PeftAdapterTest, MissingFilesAreNotFound) {
  ASSERT_OK(RemoveAll(JoinPath(dir_, "adapter_model.safetensors")));
  EXPECT_THAT(ReadPeftAdapter(dir_, base_),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("adapter_model.safetensors")));
}

TEST_F(PeftAdapterTest, MergeAddsScaledProduct) {
  const std::string base_dir = JoinPath(temp_->path(), "base");
  const std::string out_dir = JoinPath(temp_->path(), "merged");
  TinyModelOptions options;
  options.tied = false;
  ASSERT_OK(WriteTinyModel(base_dir, options));
  ASSERT_OK(MergeAdapter(base_dir, adapter_, out_dir));
  ASSERT_OK_AND_ASSIGN(const auto base, ModelFiles::Open(base_dir));
  ASSERT_OK_AND_ASSIGN(const auto merged, ModelFiles::Open(out_dir));
  EXPECT_EQ(merged->config().rope_factor, 4);
  EXPECT_EQ(merged->config().context_tokens(), 256);
  EXPECT_EQ(ReadFile(JoinPath(out_dir, "tokenizer.json")).value(),
            ReadFile(JoinPath(base_dir, "tokenizer.json")).value());
  for (const auto& [name, shape] : LlamaTensors(base->config())) {
    const std::string module = name.substr(0, name.rfind('.'));
    std::vector<float> expected = ToF32(*base->tensor(name)).value();
    if (adapter_.full.contains(name)) {
      expected = adapter_.full.at(name).values;
    } else if (adapter_.lora_a.contains(module)) {
      const HostTensor& a = adapter_.lora_a.at(module);
      const HostTensor& b = adapter_.lora_b.at(module);
      for (int64_t o = 0; o < shape[0]; ++o) {
        for (int64_t i = 0; i < shape[1]; ++i) {
          double sum = 0;
          for (int64_t r = 0; r < 4; ++r) {
            sum += static_cast<double>(b.values[o * 4 + r]) *
                   a.values[r * shape[1] + i];
          }
          expected[o * shape[1] + i] += static_cast<float>(6.0 / 4 * sum);
        }
      }
    }
    EXPECT_EQ(merged->tensor(name)->dtype, FileDType::kBF16);
    // One unit of bf16's last place.
    EXPECT_TRUE(testing::AllClose(ToF32(*merged->tensor(name)).value(),
                                  expected, 1e-6, 1.0 / 128))
        << name;
  }
}

TEST_F(PeftAdapterTest, MergeKeepsTheBasesContextWhenTheAdapterHasNone) {
  const std::string base_dir = JoinPath(temp_->path(), "base");
  const std::string out_dir = JoinPath(temp_->path(), "merged");
  TinyModelOptions options;
  options.rope_factor = 2;
  ASSERT_OK(WriteTinyModel(base_dir, options));
  adapter_.context_tokens = 0;
  adapter_.rope_factor = 1;
  ASSERT_OK(MergeAdapter(base_dir, adapter_, out_dir));
  EXPECT_EQ(ModelFiles::Open(out_dir)->get()->config().rope_factor, 2);
  options.layers = 3;
  ASSERT_OK(WriteTinyModel(base_dir, options));
  EXPECT_THAT(
      MergeAdapter(base_dir, adapter_, out_dir),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("layers.2")));
}

}  // namespace
}  // namespace sinklora
