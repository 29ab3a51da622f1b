// Logits, scores and gradients of every architecture and kind of RoPE scaling
// against what transformers computed, tests/parity/data/architectures.
//
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <list>
#include <set>
#include <string>
#include <tuple>

#include "common/model/internal/pass.h"
#include "common/model/internal/served_model_impl.h"
#include "common/model/internal/training_run_impl.h"
#include "common/weights/safetensors.h"
#include "nlohmann/json.hpp"
#include "tests/common/model/serving_fixture.h"

namespace sinklora {
namespace {

using internal::Graph;

// Largest difference to a golden value, relative to the largest of them.
constexpr double kLogitTolerance = 1e-4;
constexpr double kGradientTolerance = 1e-4;

const char* const kCases[] = {"llama",
                              "llama_tied",
                              "llama_bias",
                              "llama_linear",
                              "llama_dynamic",
                              "llama_yarn",
                              "llama_llama3",
                              "llama_yarn_mscale",
                              "llama_yarn_attention",
                              "smollm",
                              "tinyllama",
                              "mistral",
                              "mistral_full",
                              "qwen2",
                              "qwen2_window",
                              "qwen2_yarn",
                              "qwen3",
                              "qwen3_bias"};
const char* const kGradientCases[] = {
    "llama", "llama_tied", "llama_bias",   "llama_dynamic", "llama_yarn",
    "qwen2", "mistral",    "qwen2_window", "qwen3",         "qwen3_bias"};

std::string GoldenPath(const std::string& name) {
  const char* root = std::getenv("SINKLORA_SOURCE_DIR");
  return JoinPath(root == nullptr ? "." : root,
                  "tests/parity/data/architectures/" + name);
}

// The tensor that make_architecture_goldens.py's weight() gives this name.
std::vector<float> Weights(const std::string& name, int64_t count) {
  uint64_t seed = 0xcbf29ce484222325;
  for (const char c : name) {
    seed = (seed ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  }
  const auto contains = [&](const char* part) {
    return name.find(part) != std::string::npos;
  };
  const bool norm = name.ends_with("norm.weight");
  double scale = 0.5;
  if (norm || contains("o_proj.weight") || contains("down_proj.weight")) {
    scale = 0.25;
  } else if (contains("embed_tokens")) {
    scale = 1;
  }
  std::vector<float> out;
  for (int64_t i = 1; i <= count; ++i) {
    uint64_t x = seed + static_cast<uint64_t>(i) * 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    x = x ^ (x >> 31);
    const double unit = (2.0 * static_cast<double>(x >> 56) - 255.0) / 256.0;
    out.push_back(static_cast<float>(scale * unit + (norm ? 1 : 0)));
  }
  return out;
}

// One case: its goldens, and its model as files.
struct Golden {
  std::unique_ptr<SafetensorsFile> file;
  std::unique_ptr<TempDir> directory;
  std::unique_ptr<ModelFiles> files;

  std::vector<float> Values(const std::string& name) const {
    return ToF32(file->tensors().at(name)).value();
  }
  std::vector<int32_t> Ints(const std::string& name) const {
    const StoredTensor& tensor = file->tensors().at(name);
    const auto* data = reinterpret_cast<const int32_t*>(tensor.bytes.data());
    return {data, data + tensor.num_elements()};
  }
};

void WriteModel(const std::string& config_json, const std::string& directory) {
  ASSERT_OK_AND_ASSIGN(const LlamaConfig config, ParseLlamaConfig(config_json));
  std::list<TensorBytes> bytes;
  std::map<std::string, StoredTensor> tensors;
  for (const auto& [name, shape] : LlamaTensors(config)) {
    int64_t count = 1;
    for (const int64_t d : shape) count *= d;
    bytes.emplace_back(Weights(name, count).data(), shape, FileDType::kF32);
    tensors[name] = bytes.back().view();
  }
  ASSERT_OK(WriteSafetensors(JoinPath(directory, "model.safetensors"), tensors,
                             {{"format", "pt"}}));
  ASSERT_OK(WriteFileAtomic(JoinPath(directory, "config.json"), config_json));
}

Golden Load(const std::string& name, const std::string& goldens) {
  Golden out;
  const std::string path = GoldenPath(name);
  auto file = SafetensorsFile::Open(JoinPath(path, goldens));
  auto config = ReadFile(JoinPath(path, "config.json"));
  auto directory = TempDir::Create();
  EXPECT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE(config.ok() && directory.ok()) << config.status();
  if (!file.ok() || !config.ok() || !directory.ok()) return out;
  out.file = std::move(*file);
  out.directory = std::move(*directory);
  WriteModel(*config, out.directory->path());
  auto files = ModelFiles::Open(out.directory->path());
  EXPECT_TRUE(files.ok()) << files.status();
  if (files.ok()) out.files = std::move(*files);
  return out;
}

// A line for the table of tests/parity/README.md.
void Report(const char* what, const char* name, const char* backend,
            double worst) {
  std::cout << "[  PARITY  ] " << what << " " << name << " " << backend << " "
            << worst << std::endl;
}

// Largest |got - want| over the largest |want|; infinite when they cannot be
// compared.
template <typename Got>
double Difference(const Got& got, const std::vector<float>& want) {
  if (std::size(got) != want.size() || want.empty()) return INFINITY;
  double largest = 0, difference = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    if (!std::isfinite(got[i]) || !std::isfinite(want[i])) return INFINITY;
    largest = std::max(largest, std::abs(double{want[i]}));
    difference = std::max(difference, std::abs(double{got[i]} - want[i]));
  }
  return largest > 0 ? difference / largest : INFINITY;
}

// Logits of every position, from one pass over all of `ids`.
absl::StatusOr<std::vector<float>> TeacherForced(
    const internal::ServedModelImpl& model, const std::vector<int32_t>& ids) {
  kernels::Backend* backend = model.base().backend();
  const auto tokens = static_cast<int64_t>(ids.size());
  internal::HostBatch batch;
  batch.ids = ids;
  batch.labels.assign(ids.size(), -1);
  for (int32_t i = 0; i < tokens; ++i) batch.positions.push_back(i);
  batch.pattern.segments = {{0, tokens, tokens}};
  SL_ASSIGN_OR_RETURN(const auto rope, model.rope().ForLength(tokens));
  const Graph graph = model.graph(*rope, kernels::DType::kF32);
  internal::Arena arena;
  SL_ASSIGN_OR_RETURN(const auto a,
                      internal::PreparePass(graph, internal::PassKind::kForward,
                                            batch, 0, &arena));
  SL_RETURN_IF_ERROR(
      internal::ForwardPass(graph, model.weights(), batch, a, nullptr));
  SL_RETURN_IF_KERNEL_ERROR(backend->RmsNormForward(
      {.x = a.residual.back(),
       .weight = model.weights().final_norm.weight,
       .eps = static_cast<float>(model.config().rms_norm_eps),
       .out = a.final_input}));
  SL_ASSIGN_OR_RETURN(
      const auto logits,
      internal::DeviceTensor::Create(backend, kernels::DType::kF32,
                                     {tokens, model.config().vocab_size}));
  SL_RETURN_IF_KERNEL_ERROR(backend->MatMul({.a = a.final_input,
                                             .b = model.weights().head.dense,
                                             .out = logits.view(),
                                             .transpose_b = true}));
  return internal::Download(backend, logits.view());
}

// Row `position` of golden logits; empty when it was not kept.
std::vector<float> GoldenRow(const Golden& golden, int64_t length,
                             int64_t position, int64_t vocab) {
  const std::vector<float> rows =
      golden.Values("logits_" + std::to_string(length));
  int64_t row = position;
  if (length > 17) {
    const std::vector<int32_t> kept = golden.Ints("positions");
    const auto it = std::find(kept.begin(), kept.end(), position);
    if (it == kept.end()) return {};
    row = it - kept.begin();
  }
  return {rows.begin() + row * vocab, rows.begin() + (row + 1) * vocab};
}

using Param = std::tuple<const char*, const char*>;  // backend, case

std::string NameOf(const ::testing::TestParamInfo<Param>& info) {
  return std::string(std::get<0>(info.param)) + "_" + std::get<1>(info.param);
}

class ArchitectureGoldenTest : public ::testing::TestWithParam<Param> {
 protected:
  void SetUp() override {
    golden_ = Load(std::get<1>(GetParam()), "golden.safetensors");
    ASSERT_NE(golden_.files, nullptr);
    backend_ = OpenTestBackend(std::get<0>(GetParam()));
    ASSERT_OK_AND_ASSIGN(weights_,
                         BaseWeights::Load(backend_.get(), *golden_.files,
                                           WeightType::kFloat32));
    ASSERT_OK_AND_ASSIGN(model_, ServedModel::Create(weights_, nullptr, 0));
    ids_ = golden_.Ints("ids");
    vocab_ = model_->config().vocab_size;
  }
  std::vector<int32_t> First(int64_t length) const {
    return {ids_.begin(), ids_.begin() + length};
  }
  // Compares the logits after `position` tokens more.
  void Compare(std::span<const float> logits, int64_t length,
               int64_t position) {
    const auto want = GoldenRow(golden_, length, position, vocab_);
    if (want.empty()) return;
    const double difference = Difference(logits, want);
    EXPECT_LE(difference, kLogitTolerance)
        << "length " << length << " position " << position;
    worst_ = std::max(worst_, difference);
    ++compared_;
  }

  std::unique_ptr<kernels::Backend> backend_;
  Golden golden_;
  std::shared_ptr<BaseWeights> weights_;
  std::shared_ptr<ServedModel> model_;
  std::vector<int32_t> ids_;
  int64_t vocab_ = 0;
  double worst_ = 0;
  int compared_ = 0;
};

TEST_P(ArchitectureGoldenTest, TensorsAreThoseOfTheStateDict) {
  const auto want =
      nlohmann::json::parse(golden_.file->metadata().at("tensors"));
  std::map<std::string, std::vector<int64_t>> expected, got;
  want.get_to(expected);
  for (const auto& [name, shape] : LlamaTensors(golden_.files->config())) {
    got[name] = shape;
  }
  EXPECT_EQ(got, expected);
}

TEST_P(ArchitectureGoldenTest, LogitsOfOnePass) {
  const auto& model = static_cast<internal::ServedModelImpl&>(*model_);
  for (const int64_t length : {1, 17, 80}) {
    ASSERT_OK_AND_ASSIGN(const std::vector<float> logits,
                         TeacherForced(model, First(length)));
    for (int64_t p = 0; p < length; ++p) {
      Compare(std::span(logits).subspan(p * vocab_, vocab_), length, p);
    }
  }
  EXPECT_EQ(compared_, 1 + 17 + 19);
  Report("pass", std::get<1>(GetParam()), std::get<0>(GetParam()), worst_);
}

// Prefill in chunks, then token by token.
TEST_P(ArchitectureGoldenTest, LogitsOfServing) {
  for (const int64_t length : {1, 17, 80}) {
    for (const int64_t prompt : {int64_t{1}, (length + 1) / 2, length}) {
      ASSERT_OK_AND_ASSIGN(
          const auto sequence,
          Sequence::Create(model_, {CachePolicyKind::kFull, 128, 128, 0, 0},
                           length));
      const std::vector<int32_t> ids = First(length);
      const int64_t half = prompt / 2;
      if (half > 0) {
        ASSERT_OK(sequence->Prefill(std::span(ids).first(half), false));
      }
      ASSERT_OK(
          sequence->Prefill(std::span(ids).subspan(half, prompt - half), true));
      ASSERT_OK_AND_ASSIGN(const auto first, sequence->logits());
      Compare(first, length, prompt - 1);
      for (int64_t p = prompt; p < length; ++p) {
        ASSERT_OK(sequence->Decode(ids[p]));
        ASSERT_OK_AND_ASSIGN(const auto logits, sequence->logits());
        Compare(logits, length, p);
      }
    }
  }
  EXPECT_EQ(compared_, 3 + (17 + 9 + 1) + (19 + 9 + 1));
  Report("served", std::get<1>(GetParam()), std::get<0>(GetParam()), worst_);
}

TEST_P(ArchitectureGoldenTest, ScoresFollowTheLogits) {
  const std::vector<float> rows = golden_.Values("logits_17");
  ASSERT_OK_AND_ASSIGN(const auto score, model_->Score(First(17), 1, nullptr));
  double want = 0;
  for (int64_t p = 0; p + 1 < 17; ++p) {
    double sum = 0;
    for (int64_t i = 0; i < vocab_; ++i) sum += std::exp(rows[p * vocab_ + i]);
    want += std::log(sum) - rows[p * vocab_ + ids_[p + 1]];
  }
  EXPECT_LE(std::abs(score.nll_sum - want), 1e-4 * want);
}

INSTANTIATE_TEST_SUITE_P(All, ArchitectureGoldenTest,
                         ::testing::Combine(::testing::Values("cpu",
                                                              "reference"),
                                            ::testing::ValuesIn(kCases)),
                         NameOf);

class GradientGoldenTest : public ::testing::TestWithParam<Param> {};

TEST_P(GradientGoldenTest, LossAndGradients) {
  const Golden golden = Load(std::get<1>(GetParam()), "gradients.safetensors");
  ASSERT_NE(golden.files, nullptr);
  const Golden logits = Load(std::get<1>(GetParam()), "golden.safetensors");
  const auto backend = OpenTestBackend(std::get<0>(GetParam()));
  TrainingOptions options;
  options.full_parameter = true;
  options.context_tokens = golden.files->config().context_tokens();
  options.attention.pattern = PatternKind::kFull;
  options.steps = 1;
  ASSERT_OK_AND_ASSIGN(
      const auto run,
      internal::TrainingRunImpl::Create(backend.get(), *golden.files, options));
  TrainingExample example;
  example.token_ids = logits.Ints("ids");
  example.token_ids.resize(40);
  example.supervised.assign(40, 1);
  example.document_tokens = {40};
  ASSERT_OK_AND_ASSIGN(const double loss,
                       run->ComputeGradients({&example, 1}, nullptr));
  const double want_loss = golden.Values("loss").at(0);
  EXPECT_LE(std::abs(loss - want_loss), 1e-5 * want_loss);
  double worst = 0;
  for (const auto& [name, tensor] : golden.file->tensors()) {
    if (name == "loss") continue;
    const internal::Trainable* trained = run->trainables().Find(name);
    ASSERT_NE(trained, nullptr) << name;
    ASSERT_OK_AND_ASSIGN(
        const std::vector<float> got,
        internal::Download(backend.get(), trained->grad.view()));
    const double difference = Difference(got, golden.Values(name));
    EXPECT_LE(difference, kGradientTolerance) << name;
    worst = std::max(worst, difference);
  }
  Report("gradients", std::get<1>(GetParam()), std::get<0>(GetParam()), worst);
}

INSTANTIATE_TEST_SUITE_P(
    All, GradientGoldenTest,
    ::testing::Combine(::testing::Values("cpu", "reference"),
                       ::testing::ValuesIn(kGradientCases)),
    NameOf);

// No golden lies there unread, and none equals another: each kind of scaling,
// bias, norm and window shows in the logits.
TEST(GoldenFilesTest, AreAllReadAndAllDifferent) {
  std::set<std::string> found, gradients;
  for (const auto& entry :
       std::filesystem::directory_iterator(GoldenPath(""))) {
    if (!entry.is_directory()) continue;
    found.insert(entry.path().filename());
    if (std::filesystem::exists(entry.path() / "gradients.safetensors")) {
      gradients.insert(entry.path().filename());
    }
  }
  EXPECT_EQ(found, std::set<std::string>(std::begin(kCases), std::end(kCases)));
  EXPECT_EQ(gradients, std::set<std::string>(std::begin(kGradientCases),
                                             std::end(kGradientCases)));
  std::map<std::string, std::vector<float>> logits;
  for (const std::string& name : found) {
    ASSERT_OK_AND_ASSIGN(const auto file,
                         SafetensorsFile::Open(
                             JoinPath(GoldenPath(name), "golden.safetensors")));
    ASSERT_OK_AND_ASSIGN(logits[name], ToF32(file->tensors().at("logits_80")));
  }
  for (const auto& [a, a_logits] : logits) {
    for (const auto& [b, b_logits] : logits) {
      if (a == b) continue;
      EXPECT_GT(Difference(a_logits, b_logits), 100 * kLogitTolerance)
          << a << " and " << b;
    }
  }
}

}  // namespace
}  // namespace sinklora
