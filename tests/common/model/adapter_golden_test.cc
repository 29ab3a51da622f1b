// Adapters that PEFT saved, applied without merging, against what transformers
// and PEFT compute with them (tests/parity/make_adapter_goldens.py), and the
// gradients of a training step against torch's.
//
// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>
#include <cstring>

#include "common/model/internal/training_run_impl.h"
#include "tests/common/model/adapter_goldens.h"

namespace sinklora {
namespace {

using internal::Trainable;
using internal::TrainingRunImpl;

class AdapterGoldenTest : public ::testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(All, AdapterGoldenTest,
                         ::testing::ValuesIn(kGoldenAdapters),
                         [](const auto& info) { return info.param; });

TEST_P(AdapterGoldenTest, LogitsArePefts) {
  ASSERT_OK_AND_ASSIGN(const AdapterGolden golden,
                       AdapterGolden::Load(GetParam()));
  for (const char* name : {"cpu", "reference"}) {
    const auto backend = OpenTestBackend(name);
    ASSERT_OK_AND_ASSIGN(
        const auto weights,
        BaseWeights::Load(backend.get(), *golden.base, WeightType::kFloat32));
    ASSERT_OK_AND_ASSIGN(const auto model,
                         ServedModel::Create(weights, &golden.adapter, 0));
    ASSERT_OK_AND_ASSIGN(const std::vector<float> logits,
                         AllLogits(model, golden.ids));
    EXPECT_TRUE(LogitsNear(logits, golden.logits, 1e-4));
  }
}

TEST_P(AdapterGoldenTest, RoundTripKeepsEveryByteOfTheTensors) {
  ASSERT_OK_AND_ASSIGN(const AdapterGolden golden,
                       AdapterGolden::Load(GetParam()));
  ASSERT_OK_AND_ASSIGN(const auto temp, TempDir::Create());
  ASSERT_OK(WritePeftAdapter(golden.adapter, temp->path()));
  const auto open = [](const std::string& directory) {
    return SafetensorsFile::Open(
        JoinPath(directory, "adapter_model.safetensors"));
  };
  ASSERT_OK_AND_ASSIGN(const auto before, open(golden.directory));
  ASSERT_OK_AND_ASSIGN(const auto after, open(temp->path()));
  ASSERT_EQ(before->tensors().size(), after->tensors().size());
  for (const auto& [name, tensor] : before->tensors()) {
    ASSERT_TRUE(after->tensors().contains(name)) << name;
    const StoredTensor& written = after->tensors().at(name);
    EXPECT_EQ(written.dtype, tensor.dtype) << name;
    EXPECT_EQ(written.shape, tensor.shape) << name;
    EXPECT_TRUE(written.bytes == tensor.bytes) << name;
  }
  // And what PEFT said in the configuration is still said.
  ASSERT_OK_AND_ASSIGN(
      const std::string text_before,
      ReadFile(JoinPath(golden.directory, "adapter_config.json")));
  ASSERT_OK_AND_ASSIGN(const std::string text_after,
                       ReadFile(JoinPath(temp->path(), "adapter_config.json")));
  const auto config = nlohmann::json::parse(text_before);
  const auto written = nlohmann::json::parse(text_after);
  for (auto it = config.begin(); it != config.end(); ++it) {
    // One pattern and a list of one are the same.
    const bool one = it.key() == "layers_pattern" && it->is_string();
    const nlohmann::json want = one ? nlohmann::json::array({*it}) : *it;
    // So are null, false and nothing.
    const bool off = it->is_null() || *it == false;
    const nlohmann::json got = written.value(it.key(), nlohmann::json());
    EXPECT_TRUE(got == want || (off && (got.is_null() || got == false)))
        << it.key() << ": " << got;
  }
}

TEST(LongLoraTest, ItsFilesAreTheAdapterTheyWereMadeFrom) {
  ASSERT_OK_AND_ASSIGN(const AdapterGolden golden,
                       AdapterGolden::Load("saved"));
  ASSERT_OK_AND_ASSIGN(
      const PeftAdapter adapter,
      ReadPeftAdapter(GoldenPath("longlora"), golden.base->config()));
  EXPECT_EQ(adapter.dropped_vocab_rows, 1);
  EXPECT_TRUE(adapter.lora_a == golden.adapter.lora_a);
  EXPECT_TRUE(adapter.lora_b == golden.adapter.lora_b);
  EXPECT_TRUE(adapter.full == golden.adapter.full);
  EXPECT_THAT(adapter.modules_to_save, ::testing::UnorderedElementsAre(
                                           "embed_tokens", "input_layernorm",
                                           "post_attention_layernorm", "norm"));
}

// Every golden adapter changes the logits by far more than the tolerance.
TEST(AdapterGoldensTest, AdaptersMatter) {
  for (const char* name : kGoldenAdapters) {
    ASSERT_OK_AND_ASSIGN(const AdapterGolden golden, AdapterGolden::Load(name));
    const auto backend = OpenTestBackend("cpu");
    ASSERT_OK_AND_ASSIGN(
        const auto weights,
        BaseWeights::Load(backend.get(), *golden.base, WeightType::kFloat32));
    ASSERT_OK_AND_ASSIGN(const auto model,
                         ServedModel::Create(weights, nullptr, 0));
    ASSERT_OK_AND_ASSIGN(const std::vector<float> logits,
                         AllLogits(model, golden.ids));
    EXPECT_FALSE(LogitsNear(logits, golden.logits, 1e-2)) << name;
  }
}

class TrainingGoldenTest : public ::testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(All, TrainingGoldenTest,
                         ::testing::Values("saved", "rslora"),
                         [](const auto& info) { return info.param; });

TEST_P(TrainingGoldenTest, GradientsAreTorchs) {
  ASSERT_OK_AND_ASSIGN(const AdapterGolden golden,
                       AdapterGolden::Load(GetParam()));
  const PeftAdapter& adapter = golden.adapter;
  const auto backend = OpenTestBackend("cpu");
  TrainingOptions options = SmallTrainingOptions();
  options.context_tokens = golden.base->config().context_tokens();
  options.attention.pattern = PatternKind::kFull;
  options.lora.rank = adapter.rank;
  options.lora.lora_alpha = adapter.lora_alpha;
  options.lora.use_rslora = adapter.use_rslora;
  options.lora.target_modules = adapter.target_modules.names;
  options.lora.freeze_embedding_and_norms = adapter.full.empty();
  ASSERT_OK_AND_ASSIGN(
      const auto run,
      TrainingRunImpl::Create(backend.get(), *golden.base, options));
  for (const Trainable& t : run->trainables().tensors()) {
    ASSERT_OK_AND_ASSIGN(const std::vector<float> values,
                         ValueOf(adapter, t.spec.name));
    ASSERT_OK(internal::Upload(backend.get(), values, t.master.view()));
  }
  const std::vector<TrainingExample> examples = {
      {golden.ids,
       std::vector<uint8_t>(golden.ids.size(), 1),
       {static_cast<int64_t>(golden.ids.size())}}};
  ASSERT_OK_AND_ASSIGN(const double loss,
                       run->ComputeGradients(examples, nullptr));
  ASSERT_OK_AND_ASSIGN(const std::vector<float> want_loss,
                       golden.Expected("loss"));
  EXPECT_TRUE(std::abs(loss - want_loss[0]) <= 1e-5 * want_loss[0])
      << loss << " vs " << want_loss[0];
  size_t compared = 0;
  for (const Trainable& t : run->trainables().tensors()) {
    ASSERT_OK_AND_ASSIGN(const std::vector<float> got,
                         internal::Download(backend.get(), t.grad.view()));
    ASSERT_OK_AND_ASSIGN(const std::vector<float> want,
                         golden.Expected("grad." + t.spec.name));
    double largest = 0;
    for (const float x : want) largest = std::max(largest, std::abs(double{x}));
    EXPECT_GT(largest, 1e-6) << t.spec.name;
    EXPECT_TRUE(testing::AllClose(got, want, 1e-4 * largest)) << t.spec.name;
    ++compared;
  }
  // ids, logits and loss are no gradients.
  EXPECT_EQ(compared, golden.expected->tensors().size() - 3);
}

}  // namespace
}  // namespace sinklora
