// Whole models into GGUF and back, against the files of llama.cpp's converter.
//
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstring>
#include <map>
#include <set>

#include "common/gguf/gguf.h"
#include "common/gguf/gguf_model_metadata.h"
#include "common/gguf/gguf_rope.h"
#include "common/gguf/gguf_vocabulary.h"
#include "common/text/tokenizer.h"
#include "common/weights/model_files.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "nlohmann/json.hpp"
#include "tests/common/gguf/gguf_golden.h"
#include "tests/testing/matchers.h"
#include "tests/testing/tiny_model/tiny_model.h"

namespace sinklora {
namespace {

using ::sinklora::testing::FindTensor;
using ::sinklora::testing::GgufGolden;
using ::sinklora::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr const char* kModels[] = {"llama_spm", "llama3_bpe", "qwen2_bpe",
                                   "qwen3_bpe"};

class GgufRoundTripTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_OK_AND_ASSIGN(dir_, TempDir::Create()); }
  std::string Path(const std::string& name) const {
    return JoinPath(dir_->path(), name);
  }
  // A tiny model with some keys of its config.json replaced.
  std::string TinyModel(const nlohmann::json& changes = {}) {
    const std::string path = Path("tiny");
    EXPECT_OK(testing::WriteTinyModel(path, {}));
    const std::string file = JoinPath(path, "config.json");
    auto config = nlohmann::ordered_json::parse(ReadFile(file).value());
    if (changes.is_object()) config.update(changes);
    EXPECT_OK(WriteFileAtomic(file, config.dump()));
    return path;
  }
  std::unique_ptr<TempDir> dir_;
};

// Equal names, and equal types and bytes unless `values_only`, when the values
// as f32 are compared.
void ExpectSameTensors(const std::string& actual, const std::string& expected,
                       bool values_only = false) {
  ASSERT_OK_AND_ASSIGN(const auto a, ModelFiles::Open(actual));
  ASSERT_OK_AND_ASSIGN(const auto b, ModelFiles::Open(expected));
  ASSERT_EQ(a->tensor_names(), b->tensor_names());
  ASSERT_FALSE(a->tensor_names().empty());
  for (const std::string& name : a->tensor_names()) {
    const StoredTensor x = a->tensor(name).value();
    const StoredTensor y = b->tensor(name).value();
    if (values_only) {
      EXPECT_EQ(ToF32(x).value(), ToF32(y).value()) << name;
    } else {
      EXPECT_EQ(x.dtype, y.dtype) << name;
      EXPECT_TRUE(x.bytes == y.bytes) << name;
    }
  }
}

std::string Describe(const LlamaConfig& c) {
  return fmt::format(
      "{} layers {} hidden {} mlp {} heads {} of {} kv {} vocab {} positions "
      "{} eps {} theta {} rope {} {} {} {} {} {} {} {} tied {} bias {} {} {} "
      "norm {} window {} from {} context {} eos {}",
      c.model_type, c.num_layers, c.hidden_size, c.intermediate_size,
      c.num_heads, c.head_dim, c.num_kv_heads, c.vocab_size,
      c.max_position_embeddings, c.rms_norm_eps, c.rope_theta,
      static_cast<int>(c.rope.kind), c.rope_factor, c.rope.original_context,
      c.rope.attention_factor.value_or(-1), c.rope.beta_fast, c.rope.beta_slow,
      c.rope.low_freq_factor, c.rope.high_freq_factor, c.tie_word_embeddings,
      c.qkv_bias, c.o_bias, c.mlp_bias, c.qk_norm, c.sliding_window,
      c.first_sliding_layer, c.context_tokens(), c.eos_token_id.value_or(-1));
}

std::string DescribeConfig(const std::string& directory) {
  const auto model = ModelFiles::Open(directory);
  return model.ok() ? Describe((*model)->config()) : model.status().ToString();
}

void ExpectSameIds(const std::string& actual, const std::string& expected) {
  ASSERT_OK_AND_ASSIGN(const auto a, Tokenizer::LoadFromDirectory(actual));
  ASSERT_OK_AND_ASSIGN(const auto b, Tokenizer::LoadFromDirectory(expected));
  for (const std::string_view text :
       {testing::TinyModelText(), std::string_view(" a  b\tc\n\n don't 12345"),
        std::string_view("日本語 \xF0\x9F\x91\xA9 <s> <|end|>")}) {
    EXPECT_EQ(a->Encode(text).value(), b->Encode(text).value()) << text;
  }
  EXPECT_EQ(a->eos_id(), b->eos_id());
}

TEST_F(GgufRoundTripTest, ConvertersFilesBecomeTheModelsTheyWereMadeFrom) {
  for (const std::string model : kModels) {
    const std::string out = Path(model);
    ASSERT_OK(ImportGguf(GgufGolden(model + ".gguf"), out)) << model;
    ExpectSameTensors(out, GgufGolden(model));
    EXPECT_EQ(DescribeConfig(out), DescribeConfig(GgufGolden(model)));
    ExpectSameIds(out, GgufGolden(model));
    EXPECT_TRUE(FileExists(JoinPath(out, "generation_config.json")));
    EXPECT_TRUE(FileExists(JoinPath(out, "tokenizer_config.json")));
  }
}

// Any value of metadata as text; arrays by their elements.
std::string Value(const GgufFile& file, const std::string& key) {
  if (auto v = file.GetString(key); v.ok() && *v) return std::string(**v);
  if (auto v = file.GetBool(key); v.ok() && *v) return fmt::format("{}", **v);
  if (auto v = file.GetNumber(key); v.ok() && *v) return fmt::format("{}", **v);
  if (auto v = file.GetStrings(key); v.ok() && *v) {
    return fmt::format("{}", fmt::join(**v, "\n"));
  }
  if (auto v = file.GetFloats(key); v.ok() && *v) {
    return fmt::format("{}", fmt::join(**v, " "));
  }
  if (auto v = file.GetInt32s(key); v.ok() && *v) {
    return fmt::format("{}", fmt::join(**v, " "));
  }
  return "absent";
}

TEST_F(GgufRoundTripTest, ExportsEqualTheConvertersFiles) {
  // What differs on purpose.
  const std::set<std::string> skipped = {
      "general.name",  // the converter guesses more from the folder's name
      "general.size_label",  // "15K"
      "general.basename",    // parts of the name
      "general.finetune", "general.version",
      // The scaled context, where the converter writes the original one.
      "llama.context_length", "qwen3.context_length",
      // llama.cpp's own default for these kinds.
      "tokenizer.ggml.add_sep_token"};
  for (const std::string model : kModels) {
    const std::string path = Path(model + ".gguf");
    ASSERT_OK(WriteGguf(GgufGolden(model), GgufFileType::kBf16, path)) << model;
    ASSERT_OK_AND_ASSIGN(const auto actual, GgufFile::Open(path));
    ASSERT_OK_AND_ASSIGN(const auto expected,
                         GgufFile::Open(GgufGolden(model + ".gguf")));
    for (const std::string& key : expected->keys()) {
      if (skipped.contains(key)) continue;
      EXPECT_EQ(Value(*actual, key), Value(*expected, key))
          << model << ": " << key;
    }
    ASSERT_EQ(actual->tensors().size(), expected->tensors().size());
    for (const GgufTensor& want : expected->tensors()) {
      const GgufTensor* have = FindTensor(*actual, want.name);
      ASSERT_NE(have, nullptr) << want.name;
      EXPECT_EQ(have->type, want.type) << want.name;
      EXPECT_EQ(have->shape, want.shape) << want.name;
      if (want.name != "rope_freqs.weight") {
        EXPECT_TRUE(have->bytes == want.bytes) << model << ": " << want.name;
        continue;
      }
      // The converter computes these in f32.
      EXPECT_TRUE(testing::AllClose(
          ToF32({FileDType::kF32, have->shape, have->bytes}).value(),
          ToF32({FileDType::kF32, want.shape, want.bytes}).value(), 0, 1e-5));
    }
  }
}

TEST_F(GgufRoundTripTest, Q80EqualsTheConverters) {
  const std::string path = Path("q.gguf");
  ASSERT_OK(WriteGguf(GgufGolden("llama_spm"), GgufFileType::kQ80, path));
  ASSERT_OK_AND_ASSIGN(const auto actual, GgufFile::Open(path));
  ASSERT_OK_AND_ASSIGN(const auto expected,
                       GgufFile::Open(GgufGolden("llama_spm_q8_0.gguf")));
  EXPECT_EQ(Value(*actual, "general.file_type"), "7");
  ASSERT_FALSE(expected->tensors().empty());
  for (const GgufTensor& want : expected->tensors()) {
    const GgufTensor* have = FindTensor(*actual, want.name);
    ASSERT_NE(have, nullptr) << want.name;
    EXPECT_EQ(have->type, want.type) << want.name;
    EXPECT_TRUE(have->bytes == want.bytes) << want.name;
  }
  // And back, to within a step of each block and bf16's rounding.
  const std::string out = Path("q");
  ASSERT_OK(ImportGguf(path, out));
  ASSERT_OK_AND_ASSIGN(const auto a, ModelFiles::Open(out));
  ASSERT_OK_AND_ASSIGN(const auto b, ModelFiles::Open(GgufGolden("llama_spm")));
  for (const std::string& name : b->tensor_names()) {
    const auto x = ToF32(a->tensor(name).value()).value();
    const auto y = ToF32(b->tensor(name).value()).value();
    float largest = 0;
    for (const float value : y) largest = std::max(largest, std::fabs(value));
    EXPECT_TRUE(testing::AllClose(x, y, largest / 200, 0x1p-8)) << name;
  }
}

TEST_F(GgufRoundTripTest, RoundTripsAreBitIdentical) {
  for (const std::string model : kModels) {
    for (const GgufFileType type : {GgufFileType::kBf16, GgufFileType::kF32}) {
      const std::string name =
          model + "." + std::string(GgufFileTypeName(type));
      const std::string path = Path(name + ".gguf");
      ASSERT_OK(WriteGguf(GgufGolden(model), type, path)) << model;
      ASSERT_OK(ImportGguf(path, Path(name))) << model;
      // The sources are bf16: an F32 file gives their values in f32.
      ExpectSameTensors(Path(name), GgufGolden(model),
                        /*values_only=*/type == GgufFileType::kF32);
      EXPECT_EQ(DescribeConfig(Path(name)), DescribeConfig(GgufGolden(model)));
      ExpectSameIds(Path(name), GgufGolden(model));
      // What was imported is exported to the same file.
      ASSERT_OK(WriteGguf(Path(name), type, Path(name + ".again.gguf")));
      ASSERT_OK_AND_ASSIGN(const auto once, GgufFile::Open(path));
      ASSERT_OK_AND_ASSIGN(const auto twice,
                           GgufFile::Open(Path(name + ".again.gguf")));
      EXPECT_EQ(once->keys(), twice->keys());
      for (const std::string& key : once->keys()) {
        if (key == "general.name") continue;
        EXPECT_EQ(Value(*once, key), Value(*twice, key)) << model << key;
      }
      for (const GgufTensor& tensor : once->tensors()) {
        EXPECT_TRUE(FindTensor(*twice, tensor.name)->bytes == tensor.bytes)
            << model << ": " << tensor.name;
      }
    }
  }
}

TEST_F(GgufRoundTripTest, EqualInputGivesEqualBytes) {
  for (const char* name : {"a", "b"}) {
    ASSERT_OK(
        WriteGguf(GgufGolden("llama_spm"), GgufFileType::kF16, Path(name)));
  }
  EXPECT_TRUE(ReadFile(Path("a")).value() == ReadFile(Path("b")).value());
}

// llama.cpp has no window for Mistral; within it, full attention is the same.
TEST_F(GgufRoundTripTest, ASlidingWindowLimitsTheContext) {
  const std::string model =
      TinyModel({{"model_type", "mistral"},
                 {"architectures", {"MistralForCausalLM"}},
                 {"sliding_window", 24}});
  ASSERT_OK(WriteGguf(model, GgufFileType::kBf16, Path("m.gguf")));
  ASSERT_OK_AND_ASSIGN(const auto file, GgufFile::Open(Path("m.gguf")));
  EXPECT_EQ(Value(*file, "general.architecture"), "llama");
  EXPECT_EQ(Value(*file, "llama.context_length"), "24");
  EXPECT_EQ(Value(*file, "llama.attention.sliding_window"), "24");
  ASSERT_OK(ImportGguf(Path("m.gguf"), Path("back")));
  EXPECT_EQ(DescribeConfig(Path("back")), DescribeConfig(model));
  ExpectSameTensors(Path("back"), model);
}

TEST_F(GgufRoundTripTest, RopeScalingThatLlamaCppLacksIsRefused) {
  const std::pair<nlohmann::json, const char*> cases[] = {
      {{{"rope_type", "dynamic"}, {"factor", 2.0}}, "dynamic"},
      {{{"rope_type", "yarn"},
        {"factor", 2.0},
        {"original_max_position_embeddings", 64},
        {"beta_fast", 16.0}},
       "beta_fast 16"}};
  for (const auto& [scaling, message] : cases) {
    const std::string model = TinyModel({{"rope_scaling", scaling}});
    EXPECT_THAT(WriteGguf(model, GgufFileType::kF32, Path("m.gguf")),
                StatusIs(kInvalid, AllOf(HasSubstr("config.json: rope_scaling"),
                                         HasSubstr(message))));
    EXPECT_FALSE(FileExists(Path("m.gguf")));
  }
}

TEST_F(GgufRoundTripTest, YarnAttentionFactorIsRelativeToLlamaCpps) {
  const std::string model =
      TinyModel({{"rope_scaling",
                  {{"rope_type", "yarn"},
                   {"factor", 2.0},
                   {"original_max_position_embeddings", 64},
                   {"attention_factor", 1.25}}}});
  ASSERT_OK(WriteGguf(model, GgufFileType::kF32, Path("m.gguf")));
  ASSERT_OK_AND_ASSIGN(const auto file, GgufFile::Open(Path("m.gguf")));
  EXPECT_NEAR(file->GetNumber("llama.rope.scaling.attn_factor").value().value(),
              1.25 / (1 + 0.1 * std::log(2.0)), 1e-6);
  ASSERT_OK(ImportGguf(Path("m.gguf"), Path("back")));
  ASSERT_OK_AND_ASSIGN(const auto back, ModelFiles::Open(Path("back")));
  EXPECT_NEAR(back->config().rope.attention_factor.value(), 1.25, 1e-6);
}

// Llama 3.1 8B's and 3.2's own, and others, from their factors alone.
TEST_F(GgufRoundTripTest, Llama3ScalingFollowsFromItsFactors) {
  LlamaConfig config;
  config.rope.kind = RopeKind::kLlama3;
  struct Case {
    int64_t head_dim;
    double theta, factor, high;
    int64_t original;
  };
  const Case cases[] = {{128, 500000, 8, 4, 8192},
                        {64, 500000, 32, 4, 8192},
                        {128, 500000, 16, 4, 4096},
                        {128, 1000000, 4, 2.5, 6000}};
  for (const Case& c : cases) {
    config.head_dim = c.head_dim;
    config.rope_theta = c.theta;
    config.rope_factor = c.factor;
    config.rope.high_freq_factor = c.high;
    config.rope.original_context = c.original;
    const std::vector<float> factors = RopeFreqs(config);
    ASSERT_EQ(factors.size(), static_cast<size_t>(c.head_dim / 2));
    LlamaConfig fitted;
    fitted.head_dim = c.head_dim;
    fitted.rope_theta = c.theta;
    ASSERT_OK(FitLlama3Scaling(factors, "m", &fitted));
    EXPECT_EQ(fitted.rope.kind, RopeKind::kLlama3);
    EXPECT_EQ(fitted.rope_factor, c.factor);
    EXPECT_EQ(fitted.rope.high_freq_factor, c.high);
    EXPECT_EQ(fitted.rope.original_context, c.original);
  }
  LlamaConfig other;
  other.head_dim = 8;
  for (const std::vector<float>& factors :
       {std::vector<float>{1, 3, 2, 4}, std::vector<float>{1, 1, 0.5f, 4},
        std::vector<float>{1, 1, NAN, 4}}) {
    EXPECT_THAT(
        FitLlama3Scaling(factors, "m: tensor 'rope_freqs.weight'", &other),
        StatusIs(kInvalid, HasSubstr("'rope_freqs.weight' is not the "
                                     "scaling of Llama 3.1")));
  }
  ASSERT_OK(FitLlama3Scaling(std::vector<float>(4, 1.0f), "m", &other));
  EXPECT_EQ(other.rope.kind, RopeKind::kLinear);
  EXPECT_EQ(other.rope_factor, 1);
}

TEST_F(GgufRoundTripTest, WeightsBeyondF16AreNamedAndNothingIsLeft) {
  const std::string model = TinyModel();
  ASSERT_OK_AND_ASSIGN(const auto file,
                       SafetensorsFile::Open(model + "/model.safetensors"));
  std::map<std::string, StoredTensor> tensors = file->tensors();
  const std::string name = "model.layers.1.mlp.up_proj.weight";
  std::string bytes(tensors.at(name).bytes);
  bytes[21] = '\x48';  // the exponent of element 10: 2^17
  tensors.at(name).bytes = bytes;
  ASSERT_OK(WriteSafetensors(Path("changed"), tensors, {{"format", "pt"}}));
  const std::string changed = ReadFile(Path("changed")).value();
  ASSERT_OK(WriteFileAtomic(model + "/model.safetensors", changed));
  EXPECT_THAT(WriteGguf(model, GgufFileType::kF16, Path("m.gguf")),
              StatusIs(kInvalid, AllOf(HasSubstr("tensor '" + name + "' has"),
                                       HasSubstr("f16's range"))));
  EXPECT_FALSE(FileExists(Path("m.gguf")));
  EXPECT_OK(WriteGguf(model, GgufFileType::kBf16, Path("m.gguf")));
}

// A copy of the golden with one tensor or key changed by `change`.
class GgufImportTest : public GgufRoundTripTest {
 protected:
  struct Plan {
    std::string drop = "";  // tensor to leave out
    std::string add = "";   // tensor to add, [2] of F32
    std::string transpose = "";
    std::string nan = "";
    std::string architecture = "llama";
    uint32_t layers = 1;
    uint32_t experts = 0;
    uint32_t key_length = 8;
  };
  absl::Status Import(const Plan& plan) {
    SL_ASSIGN_OR_RETURN(const auto golden,
                        GgufFile::Open(GgufGolden("llama_spm.gguf")));
    GgufHeader header;
    header.AddString("general.architecture", plan.architecture);
    const std::string prefix = plan.architecture;
    header.AddUint32(prefix + ".block_count", plan.layers);
    header.AddUint32(prefix + ".context_length", 64);
    header.AddUint32(prefix + ".embedding_length", 32);
    header.AddUint32(prefix + ".feed_forward_length", 64);
    header.AddUint32(prefix + ".attention.head_count", 4);
    header.AddUint32(prefix + ".attention.head_count_kv", 2);
    header.AddUint32(prefix + ".attention.key_length", plan.key_length);
    header.AddUint32(prefix + ".expert_count", plan.experts);
    header.AddFloat(prefix + ".attention.layer_norm_rms_epsilon", 1e-5f);
    SL_ASSIGN_OR_RETURN(const VocabularyView vocabulary,
                        ParseVocabulary(*golden));
    SL_RETURN_IF_ERROR(AddVocabulary(vocabulary, 320, "m", &header));
    std::vector<std::pair<std::string, std::string>> data;
    for (const GgufTensor& tensor : golden->tensors()) {
      if (tensor.name == plan.drop) continue;
      std::vector<int64_t> shape = tensor.shape;
      if (tensor.name == plan.transpose) std::swap(shape[0], shape[1]);
      SL_RETURN_IF_ERROR(header.AddTensor(tensor.name, tensor.type, shape));
      data.push_back({tensor.name, std::string(tensor.bytes)});
      if (tensor.name == plan.nan) data.back().second.replace(6, 2, "\xC0\x7F");
    }
    if (!plan.add.empty()) {
      SL_RETURN_IF_ERROR(header.AddTensor(plan.add, GgmlType::kF32, {2}));
      data.push_back({plan.add, std::string(8, '\0')});
    }
    const std::string path = Path("changed.gguf");
    SL_ASSIGN_OR_RETURN(const auto writer,
                        GgufWriter::Create(path, std::move(header)));
    for (const auto& [name, bytes] : data) {
      SL_RETURN_IF_ERROR(writer->Append(name, bytes));
    }
    SL_RETURN_IF_ERROR(writer->Finish());
    return ImportGguf(path, Path("out"));
  }
};

TEST_F(GgufImportTest, DefectsAreNamedAndNothingIsLeft) {
  const std::pair<Plan, const char*> cases[] = {
      {{.drop = "blk.0.attn_k.weight"},
       "tensor 'blk.0.attn_k.weight' is missing"},
      {{.drop = "token_embd.weight"},
       "tensor 'token_embd.weight' is missing or no matrix"},
      {{.add = "blk.0.attn_rot_embd.weight"},
       "tensor 'blk.0.attn_rot_embd.weight' is not known"},
      {{.add = "blk.7.attn_norm.weight"},
       "tensor 'blk.7.attn_norm.weight' is not part of a model"},
      {{.add = "rope_freqs.weight"},
       "tensor 'rope_freqs.weight' is F32 of shape [2], must be F32 of [4]"},
      {{.transpose = "blk.0.ffn_up.weight"},
       "tensor 'blk.0.ffn_up.weight' has shape [32, 64], the metadata makes it "
       "[64, 32]"},
      {{.nan = "blk.0.ffn_up.weight"},
       "tensor 'blk.0.ffn_up.weight' has the value nan"},
      {{.architecture = "gpt2"},
       "key 'general.architecture' is 'gpt2', must be 'llama', 'qwen2' or "
       "'qwen3'"},
      {{.layers = 0}, "key 'llama.block_count' is 0, must be in [1, "},
      {{.layers = 2}, "tensor 'blk.1."},
      {{.layers = 2000000000},
       "key 'llama.block_count' is 2000000000, the file has only"},
      {{.experts = 8}, "key 'llama.expert_count' is 8, experts"},
      {{.key_length = 16},
       "has shape [32, 32], the metadata makes it [64, 32]"},
  };
  for (const auto& [plan, message] : cases) {
    EXPECT_THAT(Import(plan),
                StatusIs(kInvalid, AllOf(HasSubstr("changed.gguf: "),
                                         HasSubstr(message))));
    EXPECT_FALSE(FileExists(Path("out")));
    EXPECT_EQ(ListFilesRecursive(dir_->path()).value(),
              std::vector<std::string>{"changed.gguf"});
  }
  EXPECT_OK(Import({}));
  EXPECT_THAT(Import({}), StatusIs(absl::StatusCode::kAlreadyExists));
}

}  // namespace
}  // namespace sinklora
