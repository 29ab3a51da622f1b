// The tensors of each architecture against what is in the files.
//
// SPDX-License-Identifier: Apache-2.0
#include <set>

#include "common/base/files.h"
#include "common/weights/model_files.h"
#include "common/weights/random_model.h"
#include "common/weights/tensor_names.h"
#include "tests/testing/matchers.h"
#include "tests/testing/tiny_model/tiny_model.h"

namespace sinklora {
namespace {

using ::sinklora::testing::StatusIs;
using ::sinklora::testing::TinyModelConfig;
using ::testing::AllOf;
using ::testing::HasSubstr;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
using TensorMap = std::map<std::string, StoredTensor>;

LlamaConfig Untied() {
  LlamaConfig config = TinyModelConfig({});
  config.tie_word_embeddings = false;
  return config;
}

class ModelTensorsTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_OK_AND_ASSIGN(temp_, TempDir::Create()); }
  // The tensors of a random model of `config`, with which dir() then opens.
  TensorMap Write(const LlamaConfig& config) {
    EXPECT_OK(WriteRandomModel(dir(), ToJson(config), 1));
    auto file = SafetensorsFile::Open(Path("model.safetensors"));
    EXPECT_TRUE(file.ok()) << file.status();
    if (!file.ok()) return {};
    original_ = std::move(*file);
    return original_->tensors();
  }
  absl::Status OpenWith(const TensorMap& tensors) {
    EXPECT_OK(WriteSafetensors(Path("model.safetensors"), tensors, {}));
    return ModelFiles::Open(dir()).status();
  }
  const std::string& dir() const { return temp_->path(); }
  std::string Path(const char* name) const { return JoinPath(dir(), name); }

 private:
  std::unique_ptr<TempDir> temp_;
  std::unique_ptr<SafetensorsFile> original_;
};

TEST_F(ModelTensorsTest, EveryArchitectureCountsItsTensors) {
  LlamaConfig bias = Untied(), qwen2 = Untied(), qwen3 = Untied();
  bias.qkv_bias = bias.o_bias = bias.mlp_bias = true;
  qwen2.model_type = "qwen2";
  qwen2.qkv_bias = true;
  qwen3.model_type = "qwen3";
  qwen3.qk_norm = true;
  for (const auto& [config, tensors] :
       {std::pair{Untied(), 21}, {bias, 35}, {qwen2, 27}, {qwen3, 25}}) {
    Write(config);
    ASSERT_OK_AND_ASSIGN(const auto model, ModelFiles::Open(dir()));
    EXPECT_EQ(model->tensor_names().size(), static_cast<size_t>(tensors));
    int64_t parameters = 0;
    for (const std::string& name : model->tensor_names()) {
      parameters += model->tensor(name)->num_elements();
    }
    EXPECT_EQ(parameters, config.parameter_count());
  }
}

// Biases start at 0 and norms at 1.
TEST_F(ModelTensorsTest, RandomVectorsAreNeutral) {
  LlamaConfig config = Untied();
  config.model_type = "qwen3";
  config.qk_norm = config.qkv_bias = config.o_bias = true;
  Write(config);
  ASSERT_OK_AND_ASSIGN(const auto model, ModelFiles::Open(dir()));
  for (const auto& [name, value] :
       {std::pair{"model.layers.1.self_attn.o_proj.bias", 0.0f},
        {"model.layers.0.self_attn.k_norm.weight", 1.0f}}) {
    ASSERT_OK_AND_ASSIGN(const StoredTensor tensor, model->tensor(name));
    ASSERT_OK_AND_ASSIGN(const auto values, ToF32(tensor));
    for (const float x : values) EXPECT_EQ(x, value) << name;
  }
}

TEST_F(ModelTensorsTest, AllMissingTensorsAreListed) {
  TensorMap tensors = Write(Untied());
  for (const char* name : {"model.layers.0.mlp.up_proj.weight",
                           "model.layers.1.mlp.up_proj.weight",
                           "model.layers.1.self_attn.q_proj.weight",
                           "lm_head.weight", "model.norm.weight"}) {
    tensors.erase(name);
  }
  EXPECT_THAT(
      OpenWith(tensors),
      StatusIs(
          kInvalid,
          AllOf(HasSubstr(dir()),
                HasSubstr("missing 5 of the tensors of model_type 'llama': "
                          "'model.norm.weight', 'lm_head.weight', "
                          "'model.layers.{0-1}.mlp.up_proj.weight', "
                          "'model.layers.1.self_attn.q_proj.weight'"))));
}

// A config that names the wrong architecture is found out by its tensors.
TEST_F(ModelTensorsTest, AnotherArchitecturesTensorsAreUnknown) {
  LlamaConfig config = Untied();
  config.model_type = "qwen2";
  config.qkv_bias = true;
  Write(config);
  ASSERT_OK(WriteFileAtomic(Path("config.json"), ToJson(Untied())));
  EXPECT_THAT(
      ModelFiles::Open(dir()).status(),
      StatusIs(kInvalid, AllOf(HasSubstr("model.safetensors"),
                               HasSubstr("unknown tensors"),
                               HasSubstr("'model.layers.{0-1}.self_attn.q_proj."
                                         "bias'"),
                               HasSubstr("model_type 'llama'"))));
  config.model_type = "qwen3";
  config.qkv_bias = false;
  config.qk_norm = true;
  ASSERT_OK(WriteFileAtomic(Path("config.json"), ToJson(config)));
  EXPECT_THAT(
      ModelFiles::Open(dir()).status(),
      StatusIs(kInvalid, AllOf(HasSubstr("missing 4 of"), HasSubstr("q_norm"),
                               HasSubstr("k_norm"))));
}

TEST_F(ModelTensorsTest, OnePadRowIsCutOff) {
  const int64_t vocab = Untied().vocab_size;
  LlamaConfig padded = Untied();
  padded.vocab_size += 1;
  const TensorMap tensors = Write(padded);
  {  // The row is a token where the config counts it.
    ASSERT_OK_AND_ASSIGN(const auto model, ModelFiles::Open(dir()));
    EXPECT_EQ(model->config().vocab_size, vocab + 1);
    EXPECT_EQ(model->tensor("lm_head.weight")->shape[0], vocab + 1);
  }
  ASSERT_OK(WriteFileAtomic(Path("config.json"), ToJson(Untied())));
  ASSERT_OK_AND_ASSIGN(const auto model, ModelFiles::Open(dir()));
  for (const char* name : {"model.embed_tokens.weight", "lm_head.weight"}) {
    ASSERT_OK_AND_ASSIGN(const StoredTensor tensor, model->tensor(name));
    const StoredTensor& before = tensors.at(name);
    EXPECT_EQ(tensor.shape, (std::vector<int64_t>{vocab, 32})) << name;
    EXPECT_EQ(tensor.bytes, before.bytes.substr(0, vocab * 32 * 2)) << name;
  }
}

TEST_F(ModelTensorsTest, OtherRowsThanTheVocabularyAreRefused) {
  for (const int64_t rows : {2, -1}) {
    LlamaConfig other = Untied();
    other.vocab_size += rows;
    Write(other);
    ASSERT_OK(WriteFileAtomic(Path("config.json"), ToJson(Untied())));
    EXPECT_THAT(
        ModelFiles::Open(dir()).status(),
        StatusIs(kInvalid, AllOf(HasSubstr("'model.embed_tokens.weight' has "
                                           "shape"),
                                 HasSubstr("config.json makes it [320, 32]"))));
  }
  EXPECT_TRUE(HasPadRow({321, 32}, {320, 32}));
  EXPECT_FALSE(HasPadRow({320, 32}, {320, 32}));
  EXPECT_FALSE(HasPadRow({321, 33}, {320, 32}));
  EXPECT_FALSE(HasPadRow({321}, {320}));
}

TEST(TensorNamesTest, LayersAreJoined) {
  std::vector<std::string> names = {"a.b"};
  for (const int i : {0, 1, 2, 5, 7, 8, 11}) {
    names.push_back("model.layers." + std::to_string(i) + ".x.weight");
  }
  names.push_back("model.layers.x.y");
  names.push_back("model.layers.3.z");
  EXPECT_EQ(JoinTensorNames(names),
            "'a.b', 'model.layers.x.y', "
            "'model.layers.{0-2,5,7-8,11}.x.weight', 'model.layers.3.z'");
}

}  // namespace
}  // namespace sinklora
