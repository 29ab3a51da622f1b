// SPDX-License-Identifier: Apache-2.0
#include "common/weights/model_files.h"

#include <cmath>

#include "common/base/files.h"
#include "common/text/tokenizer.h"
#include "nlohmann/json.hpp"
#include "tests/testing/matchers.h"
#include "tests/testing/tiny_model/tiny_model.h"

namespace sinklora {
namespace {

using ::nlohmann::json;
using ::sinklora::testing::StatusIs;
using ::sinklora::testing::TinyModelConfig;
using ::sinklora::testing::TinyModelOptions;
using ::sinklora::testing::TinyModelText;
using ::sinklora::testing::WriteTinyModel;
using ::testing::AllOf;
using ::testing::HasSubstr;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
using TensorMap = std::map<std::string, StoredTensor>;

class ModelFilesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(temp_, TempDir::Create());
    dir_ = JoinPath(temp_->path(), "model");
    ASSERT_OK(WriteTinyModel(dir_, {}));
    ASSERT_OK_AND_ASSIGN(
        original_, SafetensorsFile::Open(JoinPath(dir_, "model.safetensors")));
  }
  std::string Path(const std::string& name) { return JoinPath(dir_, name); }
  // Replaces the weights. The tensors of `original_` stay mapped.
  void WriteWeights(const TensorMap& tensors) {
    ASSERT_OK(WriteSafetensors(Path("model.safetensors"), tensors, {}));
  }
  void WriteShards(const TensorMap& first, const TensorMap& second,
                   const json& weight_map) {
    ASSERT_OK(RemoveAll(Path("model.safetensors")));
    ASSERT_OK(WriteSafetensors(Path("a.safetensors"), first, {}));
    ASSERT_OK(WriteSafetensors(Path("b.safetensors"), second, {}));
    ASSERT_OK(WriteFileAtomic(Path("model.safetensors.index.json"),
                              json{{"weight_map", weight_map}}.dump()));
  }
  std::unique_ptr<TempDir> temp_;
  std::string dir_;
  std::unique_ptr<SafetensorsFile> original_;
};

TEST_F(ModelFilesTest, OpensWhatWriteTinyModelWrote) {
  for (bool tied : {true, false}) {
    TinyModelOptions options;
    options.tied = tied;
    options.rope_factor = 4;
    ASSERT_OK(WriteTinyModel(dir_, options));
    ASSERT_OK_AND_ASSIGN(const auto model, ModelFiles::Open(dir_));
    EXPECT_EQ(model->config().context_tokens(), 256);
    EXPECT_EQ(model->tensor("lm_head.weight").ok(), !tied);
    int64_t parameters = 0;
    for (const std::string& name : model->tensor_names()) {
      parameters += model->tensor(name)->num_elements();
    }
    EXPECT_EQ(parameters, model->config().parameter_count());
    EXPECT_THAT(model->tensor("x"),
                StatusIs(absl::StatusCode::kNotFound, HasSubstr("'x'")));
    ASSERT_OK_AND_ASSIGN(const auto tokenizer,
                         Tokenizer::LoadFromDirectory(dir_));
    EXPECT_EQ(tokenizer->vocab_size(), model->config().vocab_size);
    EXPECT_EQ(tokenizer->bos_id(), 0);
    EXPECT_EQ(tokenizer->eos_id(), 1);
    const std::string text(TinyModelText());
    const auto ids = tokenizer->Encode(text).value();
    EXPECT_LT(ids.size(), text.size() * 3 / 4);
    EXPECT_EQ(tokenizer->Decode(ids).value(), text);
  }
}

TEST_F(ModelFilesTest, EqualSeedsGiveEqualBytes) {
  const std::string first = ReadFile(Path("model.safetensors")).value();
  ASSERT_OK(WriteTinyModel(dir_, {}));
  EXPECT_TRUE(ReadFile(Path("model.safetensors")).value() == first);
  TinyModelOptions other;
  other.seed = 2;
  ASSERT_OK(WriteTinyModel(dir_, other));
  EXPECT_FALSE(ReadFile(Path("model.safetensors")).value() == first);
}

TEST_F(ModelFilesTest, ShardsEqualOneFile) {
  TensorMap first, second;
  json weight_map;
  for (const auto& [name, tensor] : original_->tensors()) {
    const bool to_first = first.size() <= second.size();
    (to_first ? first : second)[name] = tensor;
    weight_map[name] = to_first ? "a.safetensors" : "b.safetensors";
  }
  WriteShards(first, second, weight_map);
  ASSERT_OK_AND_ASSIGN(const auto model, ModelFiles::Open(dir_));
  EXPECT_EQ(model->tensor_names().size(), original_->tensors().size());
  for (const auto& [name, tensor] : original_->tensors()) {
    EXPECT_TRUE(model->tensor(name)->bytes == tensor.bytes) << name;
  }

  // The index and the shards must agree.
  json wrong = weight_map;
  wrong["model.norm.weight"] =
      weight_map["model.norm.weight"] == "a.safetensors" ? "b.safetensors"
                                                         : "a.safetensors";
  WriteShards(first, second, wrong);
  EXPECT_THAT(ModelFiles::Open(dir_),
              StatusIs(kInvalid, HasSubstr("'model.norm.weight' is in ")));
  wrong = weight_map;
  wrong.erase("model.norm.weight");
  WriteShards(first, second, wrong);
  EXPECT_THAT(ModelFiles::Open(dir_),
              StatusIs(kInvalid, HasSubstr("not in the index")));
  wrong = weight_map;
  wrong["extra"] = "a.safetensors";
  WriteShards(first, second, wrong);
  EXPECT_THAT(ModelFiles::Open(dir_),
              StatusIs(kInvalid, HasSubstr("'extra' is missing")));
  wrong["extra"] = "../a.safetensors";
  WriteShards(first, second, wrong);
  EXPECT_THAT(ModelFiles::Open(dir_),
              StatusIs(kInvalid, HasSubstr("../a.safetensors")));
  WriteShards(first, second, weight_map);
  ASSERT_OK(RemoveAll(Path("b.safetensors")));
  EXPECT_THAT(ModelFiles::Open(dir_), StatusIs(absl::StatusCode::kNotFound,
                                               HasSubstr("b.safetensors")));
}

TEST_F(ModelFilesTest, TensorsMustFitTheConfig) {
  const TensorMap good = original_->tensors();
  TensorMap tensors = good;
  tensors.erase("model.layers.1.self_attn.k_proj.weight");
  tensors["x"] = tensors["model.norm.weight"];
  WriteWeights(tensors);
  EXPECT_THAT(
      ModelFiles::Open(dir_),
      StatusIs(kInvalid, AllOf(HasSubstr("missing 1 of the tensors"),
                               HasSubstr("'model.layers.1.self_attn.k_proj."
                                         "weight'"))));
  tensors = good;
  tensors["model.layers.0.self_attn.q_proj.bias"] =
      tensors["model.norm.weight"];
  WriteWeights(tensors);
  EXPECT_THAT(ModelFiles::Open(dir_),
              StatusIs(kInvalid, HasSubstr("unknown tensor "
                                           "'model.layers.0.self_attn.q_proj."
                                           "bias'")));
  tensors = good;
  tensors["model.norm.weight"].shape = {4, 8};
  WriteWeights(tensors);
  EXPECT_THAT(ModelFiles::Open(dir_),
              StatusIs(kInvalid, HasSubstr("'model.norm.weight' has shape "
                                           "[4, 8], config.json makes it "
                                           "[32]")));
  tensors = good;
  tensors["model.norm.weight"].dtype = FileDType::kU8;
  tensors["model.norm.weight"].shape = {64};
  WriteWeights(tensors);
  EXPECT_THAT(ModelFiles::Open(dir_), StatusIs(kInvalid));
  // Buffers of old files and the head of a tied model are left out.
  tensors = good;
  tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] =
      tensors["model.norm.weight"];
  tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"];
  WriteWeights(tensors);
  ASSERT_OK_AND_ASSIGN(const auto model, ModelFiles::Open(dir_));
  EXPECT_EQ(model->tensor_names().size(), good.size());
}

TEST_F(ModelFilesTest, EveryTensorWithANonFiniteValueIsNamed) {
  TensorMap tensors = original_->tensors();
  ASSERT_OK_AND_ASSIGN(const auto good, ModelFiles::Open(dir_));
  EXPECT_OK(good->CheckFinite());
  const auto spoil = [&](const std::string& name, int64_t at, float value) {
    std::vector<float> values = ToF32(tensors.at(name)).value();
    values[at] = value;
    return TensorBytes(values.data(), tensors.at(name).shape, FileDType::kBF16);
  };
  const TensorBytes norm = spoil("model.norm.weight", 5, NAN);
  const TensorBytes q =
      spoil("model.layers.1.self_attn.q_proj.weight", 32 + 7, -INFINITY);
  tensors["model.norm.weight"] = norm.view();
  tensors["model.layers.1.self_attn.q_proj.weight"] = q.view();
  WriteWeights(tensors);
  ASSERT_OK_AND_ASSIGN(const auto model, ModelFiles::Open(dir_));
  EXPECT_THAT(
      model->CheckFinite(),
      StatusIs(
          kInvalid,
          AllOf(HasSubstr(dir_),
                HasSubstr("'model.norm.weight' of shape [32] has NaN or "
                          "infinity at [5]"),
                HasSubstr("'model.layers.1.self_attn.q_proj.weight' of "
                          "shape [32, 32] has NaN or infinity at [1, 7]"))));
}

TEST_F(ModelFilesTest, BadDirectoriesAreNamed) {
  LlamaConfig huge = TinyModelConfig({});
  huge.num_layers = 2000000000;
  ASSERT_OK(WriteFileAtomic(Path("config.json"), ToJson(huge)));
  EXPECT_THAT(ModelFiles::Open(dir_),
              StatusIs(kInvalid, HasSubstr("num_hidden_layers 2000000000")));
  ASSERT_OK(WriteFileAtomic(Path("config.json"), "{}"));
  EXPECT_THAT(ModelFiles::Open(dir_),
              StatusIs(kInvalid, AllOf(HasSubstr(dir_),
                                       HasSubstr("model_type is missing"))));
  ASSERT_OK(WriteTinyModel(dir_, {}));
  ASSERT_OK(RemoveAll(Path("model.safetensors")));
  EXPECT_THAT(ModelFiles::Open(dir_), StatusIs(absl::StatusCode::kNotFound));
  ASSERT_OK(WriteFileAtomic(Path("pytorch_model.bin"), "x"));
  EXPECT_THAT(ModelFiles::Open(dir_),
              StatusIs(kInvalid, HasSubstr("torch pickle")));
  ASSERT_OK(RemoveAll(Path("config.json")));
  EXPECT_THAT(ModelFiles::Open(dir_),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("config.json")));
}

}  // namespace
}  // namespace sinklora
