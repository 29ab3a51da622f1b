// SPDX-License-Identifier: Apache-2.0
#include "common/weights/peft_adapter.h"

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
using ::sinklora::testing::TinyModelConfig;
using ::sinklora::testing::TinyModelOptions;
using ::sinklora::testing::WriteTinyModel;
using ::testing::AllOf;
using ::testing::HasSubstr;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

HostTensor RandomTensor(std::vector<int64_t> shape, uint64_t stream) {
  int64_t n = 1;
  for (int64_t dim : shape) n *= dim;
  const CounterRng rng(11, stream);
  std::vector<float> values;
  for (int64_t i = 0; i < n; ++i) {
    values.push_back(static_cast<float>(rng.Normal(i)));
  }
  return HostTensor::FromF32(std::move(shape), values);
}

const std::vector<std::string> kSaved = {"embed_tokens", "input_layernorm",
                                         "post_attention_layernorm", "norm"};

PeftAdapter MakeAdapter(const LlamaConfig& base) {
  PeftAdapter adapter;
  adapter.base_model = "tiny";
  adapter.rank = 4;
  adapter.lora_alpha = 6;
  adapter.target_modules.names = {"q_proj", "v_proj", "down_proj"};
  adapter.modules_to_save = kSaved;
  adapter.context_tokens = 256;
  adapter.rope_factor = 4;
  uint64_t stream = 0;
  for (const auto& [name, shape] : LlamaTensors(base)) {
    for (const std::string& target : adapter.target_modules.names) {
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
  EXPECT_EQ(read.target_modules.names, adapter_.target_modules.names);
  EXPECT_EQ(read.modules_to_save, kSaved);
  EXPECT_EQ(read.context_tokens, 256);
  EXPECT_EQ(read.rope_factor, 4);
  EXPECT_TRUE(read.lora_a == adapter_.lora_a);
  EXPECT_TRUE(read.lora_b == adapter_.lora_b);
  EXPECT_TRUE(read.full == adapter_.full);
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
  EXPECT_EQ(config["modules_to_save"], json(kSaved));
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

  adapter_.modules_to_save.clear();
  std::erase_if(adapter_.full, [](const auto& item) {
    return item.first.find("layers.1.input") == std::string::npos;
  });
  ASSERT_OK(WritePeftAdapter(adapter_, dir_));
  EXPECT_EQ(json::parse(Config())["modules_to_save"],
            (json{"model.layers.1.input_layernorm"}));
  EXPECT_OK(ReadPeftAdapter(dir_, base_));
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

TEST_F(PeftAdapterTest, ConfigurationErrorsNameTheFile) {
  const auto expect = [&](const char* key, const json& value,
                          const char* message) {
    json config = json::parse(Config());
    config[key] = value;
    const std::string path = JoinPath(temp_->path(), "other");
    ASSERT_OK(WritePeftAdapter(adapter_, path));
    ASSERT_OK(
        WriteFileAtomic(JoinPath(path, "adapter_config.json"), config.dump()));
    EXPECT_THAT(ReadPeftAdapter(path, base_),
                StatusIs(kInvalid, AllOf(HasSubstr(path), HasSubstr(message))))
        << key;
  };
  expect("use_dora", true, "layers.0.mlp.down_proj.lora_magnitude_vector', '");
  expect("use_dora", true, "is missing, use_dora with target_modules");
  expect("bias", "all", "bias \"all\"");
  expect("r", 8, "rank and base need [8, ");
  expect("rank_pattern", {{"down_proj", 2}},
         "down_proj.lora_A.weight' has shape [4, 64], rank and base need [2, "
         "64]");
  expect("target_modules", {"lm_head"}, "'lm_head'");
  expect("modules_to_save", {"norm", "lm_head"},
         "lm_head.weight' is missing, modules_to_save selects it");
  expect("modules_to_save", {"score"}, "modules_to_save has 'score'");
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
  expect(adapter,
         "layers.9.mlp.down_proj.lora_A.weight' is not supported or not of the "
         "base (2 layers)");
  adapter = adapter_;
  adapter.lora_a["model.layers.0.mlp.up_proj"] = RandomTensor({4, 32}, 1);
  expect(adapter,
         "up_proj.lora_A.weight' is not of the modules that target_modules "
         "selects");
  adapter = adapter_;
  adapter.lora_magnitude["model.layers.0.mlp.down_proj"] =
      RandomTensor({32}, 1);
  expect(adapter, "down_proj.lora_magnitude_vector' is not of the modules");
  adapter = adapter_;
  adapter.full["model.embed_tokens.weight"] = RandomTensor({319, 32}, 1);
  expect(adapter,
         "has shape [319, 32], rank and base need [320, 32]: is this the base");
  adapter = adapter_;
  std::vector<float> values =
      adapter.full["model.norm.weight"].ToFloats().value();
  values[3] = NAN;
  adapter.full["model.norm.weight"] = HostTensor::FromF32({32}, values);
  expect(adapter, "norm.weight' has NaN or infinity at index 3");
  adapter = adapter_;
  adapter.full["model.norm.weight"] = {
      FileDType::kI64, {32}, std::string(256, '\0')};
  expect(adapter, "norm.weight' is I64, must be F32, F16 or BF16");
}

// LongLoRA's [PAD] is row 32000 of a base of 32000.
TEST_F(PeftAdapterTest, ExtraVocabularyRowsAreDroppedAndCounted) {
  HostTensor padded = adapter_.full.at("model.embed_tokens.weight");
  const HostTensor extra = RandomTensor({1, 32}, 99);
  PeftAdapter adapter = adapter_;
  padded.bytes += extra.bytes;
  padded.shape[0] = 321;
  adapter.full["model.embed_tokens.weight"] = padded;
  ASSERT_OK(WritePeftAdapter(adapter, dir_));
  ASSERT_OK_AND_ASSIGN(const PeftAdapter read, ReadPeftAdapter(dir_, base_));
  EXPECT_EQ(read.dropped_vocab_rows, 1);
  EXPECT_TRUE(read.full == adapter_.full);
  adapter.full["model.embed_tokens.weight"] =
      RandomTensor({320 + kMaxDroppedVocabRows + 1, 32}, 1);
  ASSERT_OK(WritePeftAdapter(adapter, dir_));
  EXPECT_THAT(ReadPeftAdapter(dir_, base_),
              StatusIs(kInvalid, HasSubstr("has shape [385, 32]")));
}

TEST_F(PeftAdapterTest, ContextIsRecordedOnceAndByLongLorasRule) {
  const auto silent = [&] {
    json config = json::parse(Config());
    config.erase(kContextTokensKey);
    config.erase(kRopeFactorKey);
    ASSERT_OK(
        WriteFileAtomic(JoinPath(dir_, kAdapterConfigFile), config.dump()));
  };
  const auto factor = [&] {
    return json::parse(Config())[kRopeFactorKey].get<double>();
  };
  const int64_t original = base_.context_tokens();
  ASSERT_EQ(base_.rope_factor, 1);
  for (const auto& [tokens, expected] : {std::pair(original / 2, 1),
                                         {original, 1},
                                         {original + 1, 2},
                                         {4 * original, 4}}) {
    silent();
    ASSERT_OK(RecordAdapterContext(tokens, std::nullopt, base_, dir_));
    EXPECT_EQ(factor(), expected) << tokens;
    EXPECT_OK(RecordAdapterContext(tokens, std::nullopt, base_, dir_));
    EXPECT_THAT(RecordAdapterContext(tokens + 1, std::nullopt, base_, dir_),
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         HasSubstr("were given")));
    EXPECT_THAT(RecordAdapterContext(tokens, 7.5, base_, dir_),
                StatusIs(absl::StatusCode::kFailedPrecondition));
  }
  silent();
  ASSERT_OK(RecordAdapterContext(3 * original, 2.5, base_, dir_));
  EXPECT_EQ(factor(), 2.5);
  EXPECT_OK(RecordAdapterContext(3 * original, std::nullopt, base_, dir_));

  // LongLoRA replaces the factor of a scaled base, others multiply it.
  LlamaConfig scaled = base_;
  scaled.rope_factor = 2;
  silent();
  EXPECT_THAT(RecordAdapterContext(4 * original, std::nullopt, scaled, dir_),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("must be given")));
  EXPECT_OK(RecordAdapterContext(2 * original, std::nullopt, scaled, dir_));
  EXPECT_EQ(factor(), 2);
}

// PEFT saves embedding and head of a resized vocabulary without naming them.
TEST_F(PeftAdapterTest, UnnamedEmbeddingIsTaken) {
  json config = json::parse(Config());
  config["modules_to_save"] = {"norm"};
  ASSERT_OK(
      WriteFileAtomic(JoinPath(dir_, "adapter_config.json"), config.dump()));
  ASSERT_OK_AND_ASSIGN(const PeftAdapter read, ReadPeftAdapter(dir_, base_));
  EXPECT_TRUE(read.full == adapter_.full);
  EXPECT_THAT(read.modules_to_save,
              ::testing::ElementsAre("norm", "embed_tokens"));
}

TEST_F(PeftAdapterTest, PicklesAreRefusedWithTheSafeWay) {
  for (const char* name : {"trainable_params", "adapter_model"}) {
    ASSERT_OK(
        WriteFileAtomic(JoinPath(dir_, std::string(name) + ".bin"), "PK"));
    if (std::string(name) == "adapter_model") {
      ASSERT_OK(RemoveAll(JoinPath(dir_, "trainable_params.bin")));
      ASSERT_OK(RemoveAll(JoinPath(dir_, "adapter_model.safetensors")));
    }
    EXPECT_THAT(ReadPeftAdapter(dir_, base_),
                StatusIs(kInvalid, AllOf(HasSubstr(std::string(name) + ".bin"),
                                         HasSubstr("torch pickle"),
                                         HasSubstr("save_file"))));
  }
}

TEST_F(PeftAdapterTest, MissingFilesAreNotFound) {
  ASSERT_OK(RemoveAll(JoinPath(dir_, "adapter_model.safetensors")));
  EXPECT_THAT(ReadPeftAdapter(dir_, base_),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("adapter_model.safetensors")));
}

}  // namespace
}  // namespace sinklora
