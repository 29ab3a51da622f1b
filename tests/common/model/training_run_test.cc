// Behaviour of a training run beyond its gradients: determinism, atomicity,
// memory, learning.
//
// SPDX-License-Identifier: Apache-2.0
#include "common/model/training_run.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/model/inference_model.h"
#include "common/model/internal/training_run_impl.h"
#include "tests/common/model/training_state.h"

namespace sinklora {
namespace {

using internal::TrainingRunImpl;
using ::sinklora::testing::StatusIs;
using ::testing::HasSubstr;

TEST(TrainingRunTest, LossFallsWhenOverfitting) {
  const auto backend = OpenTestBackend("cpu");
  const ModelOnDisk model = MakeModel(SmallConfig(true), 1);
  const std::vector<TrainingExample> examples = {
      RandomExample({20, 12}, 48, 1)};
  for (const bool full_parameter : {false, true}) {
    TrainingOptions options = SmallTrainingOptions();
    options.full_parameter = full_parameter;
    options.steps = 30;
    ASSERT_OK_AND_ASSIGN(
        const auto run,
        TrainingRun::Create(backend.get(), *model.files, options));
    ASSERT_OK_AND_ASSIGN(const double before,
                         run->ValidationLoss(examples, nullptr));
    for (int i = 0; i < 30; ++i) ASSERT_OK(run->Step(examples, nullptr));
    ASSERT_OK_AND_ASSIGN(const double after,
                         run->ValidationLoss(examples, nullptr));
    EXPECT_LT(after, 0.5 * before) << full_parameter;
  }
}

TEST(TrainingRunTest, MetricsSayWhatHappened) {
  const auto backend = OpenTestBackend("cpu");
  const ModelOnDisk model = MakeModel(SmallConfig(true), 1);
  const TrainingOptions options = SmallTrainingOptions();
  ASSERT_OK_AND_ASSIGN(
      const auto run,
      TrainingRun::Create(backend.get(), *model.files, options));
  TrainingExample example = RandomExample({5, 3}, 48, 1);
  example.supervised.assign(8, 1);  // 4 + 2 tokens follow another
  ASSERT_OK_AND_ASSIGN(const StepMetrics m, run->Step({{example}}, nullptr));
  EXPECT_EQ(m.step, 1);
  EXPECT_EQ(run->step(), 1);
  EXPECT_EQ(m.tokens, 8);
  EXPECT_EQ(m.supervised_tokens, 6);
  EXPECT_DOUBLE_EQ(m.learning_rate, 5e-3);
  EXPECT_GT(m.gradient_norm, 0);
}

// Three micro-steps of one example, or one of three: the same mean.
TEST(TrainingRunTest, AccumulationEqualsOneBigBatch) {
  const auto backend = OpenTestBackend("cpu");
  const ModelOnDisk model = MakeModel(SmallConfig(true), 1);
  const std::vector<TrainingExample> examples = {RandomExample({20}, 48, 1),
                                                 RandomExample({3, 40}, 48, 3),
                                                 RandomExample({11}, 48, 5)};
  TrainingOptions options = SmallTrainingOptions();
  options.accumulation_steps = 3;
  ASSERT_OK_AND_ASSIGN(
      const auto many,
      TrainingRunImpl::Create(backend.get(), *model.files, options));
  options.accumulation_steps = 1;
  options.micro_batch_examples = 3;
  ASSERT_OK_AND_ASSIGN(
      const auto one,
      TrainingRunImpl::Create(backend.get(), *model.files, options));
  ASSERT_OK_AND_ASSIGN(const double a,
                       many->ComputeGradients(examples, nullptr));
  ASSERT_OK_AND_ASSIGN(const double b,
                       one->ComputeGradients(examples, nullptr));
  EXPECT_TRUE(std::abs(a - b) <= 1e-6 * b) << a << " " << b;
  const auto x = Gradients(backend.get(), *many);
  const auto y = Gradients(backend.get(), *one);
  for (const auto& [name, values] : x) {
    EXPECT_TRUE(testing::AllClose(values, y.at(name), 1e-6, 1e-4)) << name;
  }
}

TEST(TrainingRunTest, SameBitsForAnyThreadsAndWithKeptActivations) {
  const ModelOnDisk model = MakeModel(SmallConfig(false), 1);
  const std::vector<TrainingExample> examples = {
      RandomExample({31, 20}, 48, 1)};
  for (const kernels::DType dtype :
       {kernels::DType::kF32, kernels::DType::kBF16}) {
    for (const bool full_parameter : {false, true}) {
      TrainingOptions options = SmallTrainingOptions();
      options.matrix_dtype = dtype;
      options.full_parameter = full_parameter;
      options.optimizer.weight_decay = 0.1;
      const State one = StateAfter(*model.files, options, examples, 3, 1);
      EXPECT_EQ(one, StateAfter(*model.files, options, examples, 3, 1));
      EXPECT_EQ(one, StateAfter(*model.files, options, examples, 3, 2));
      options.keep_activations = true;
      EXPECT_EQ(one, StateAfter(*model.files, options, examples, 3, 2));
    }
  }
}

// Each subset of trained matrices keeps other inputs of the layers.
TEST(TrainingRunTest, WhatIsKeptFollowsWhatIsTrained) {
  const ModelOnDisk model = MakeModel(SmallConfig(false), 1, 0.25);
  const std::vector<TrainingExample> examples = {RandomExample({40}, 48, 1)};
  int64_t bytes[2] = {};
  const std::vector<std::vector<std::string>> subsets = {
      {"o_proj"},
      {"k_proj"},
      {"up_proj"},
      {"down_proj"},
      {"gate_proj", "v_proj"}};
  for (const std::vector<std::string>& targets : subsets) {
    TrainingOptions options = SmallTrainingOptions();
    options.lora.target_modules = targets;
    const State recomputed = StateAfter(*model.files, options, examples, 3, 2);
    options.keep_activations = true;
    EXPECT_EQ(recomputed, StateAfter(*model.files, options, examples, 3, 2))
        << targets[0];
    ASSERT_OK_AND_ASSIGN(const TrainingPlan plan,
                         PlanTraining(model.files->config(), options, 40));
    if (targets[0] == "o_proj") bytes[0] = plan.activation_bytes;
    if (targets[0] == "down_proj") bytes[1] = plan.activation_bytes;
  }
  // One product of gate and up more, of the second layer.
  EXPECT_EQ(bytes[1] - bytes[0],
            40 * model.files->config().intermediate_size * 4);
}

TEST(TrainingRunTest, Bf16StaysCloseToF32) {
  const ModelOnDisk model = MakeModel(SmallConfig(true), 1, 0.1);
  const auto backend = OpenTestBackend("cpu");
  const std::vector<TrainingExample> examples = {RandomExample({50}, 48, 1)};
  for (const bool full_parameter : {false, true}) {
    double loss[2];
    for (const bool bf16 : {false, true}) {
      TrainingOptions options = SmallTrainingOptions();
      options.full_parameter = full_parameter;
      options.matrix_dtype =
          bf16 ? kernels::DType::kBF16 : kernels::DType::kF32;
      ASSERT_OK_AND_ASSIGN(
          const auto run,
          TrainingRun::Create(backend.get(), *model.files, options));
      for (int i = 0; i < 3; ++i) ASSERT_OK(run->Step(examples, nullptr));
      ASSERT_OK_AND_ASSIGN(loss[bf16], run->ValidationLoss(examples, nullptr));
    }
    EXPECT_TRUE(std::abs(loss[0] - loss[1]) <= 0.02 * loss[0])
        << loss[0] << " vs " << loss[1];
  }
}

TEST(TrainingRunTest, CancelledStepChangesNothing) {
  const auto backend = OpenTestBackend("cpu");
  const ModelOnDisk model = MakeModel(SmallConfig(true), 1);
  ASSERT_OK_AND_ASSIGN(const auto run,
                       TrainingRunImpl::Create(backend.get(), *model.files,
                                               SmallTrainingOptions()));
  const std::vector<TrainingExample> examples = {RandomExample({20}, 48, 1)};
  ASSERT_OK(run->Step(examples, nullptr));
  const State before = StateOf(backend.get(), *run);
  Cancellation cancellation;
  cancellation.Cancel();
  EXPECT_THAT(run->Step(examples, &cancellation),
              StatusIs(absl::StatusCode::kCancelled));
  EXPECT_THAT(run->ValidationLoss(examples, &cancellation),
              StatusIs(absl::StatusCode::kCancelled));
  EXPECT_EQ(StateOf(backend.get(), *run), before);
  EXPECT_EQ(run->step(), 1);
  EXPECT_OK(run->Step(examples, nullptr));
}

// A weight so large that a product overflows f32.
TEST(TrainingRunTest, NonFiniteLossChangesNothing) {
  const auto backend = OpenTestBackend("cpu");
  ModelOnDisk model = MakeModel(SmallConfig(true), 1);
  model.reference.tensors.at("model.layers.1.mlp.up_proj.weight").values[0] =
      static_cast<double>(std::numeric_limits<float>::infinity());
  ASSERT_OK(
      testing::WriteReferenceModel(model.reference, model.directory->path()));
  ASSERT_OK_AND_ASSIGN(model.files, ModelFiles::Open(model.directory->path()));
  ASSERT_OK_AND_ASSIGN(const auto run,
                       TrainingRunImpl::Create(backend.get(), *model.files,
                                               SmallTrainingOptions()));
  const State before = StateOf(backend.get(), *run);
  const std::vector<TrainingExample> examples = {RandomExample({20}, 48, 1)};
  const auto step = run->Step(examples, nullptr);
  EXPECT_THAT(step, StatusIs(absl::StatusCode::kInternal, HasSubstr("loss")));
  EXPECT_EQ(GetErrorDetail(step.status()).reason, "NON_FINITE_LOSS");
  EXPECT_EQ(StateOf(backend.get(), *run), before);
  EXPECT_EQ(run->step(), 0);
}

// Zero projections behind a huge norm: the forward pass is finite, the gradient
// of v is not.
TEST(TrainingRunTest, NonFiniteGradientChangesNothing) {
  const auto backend = OpenTestBackend("cpu");
  ModelOnDisk model = MakeModel(SmallConfig(true), 1);
  const auto fill = [&](const char* name, double factor, double constant) {
    for (double& x : model.reference.tensors.at(name).values) {
      x = factor * x + constant;
    }
  };
  fill("model.layers.0.input_layernorm.weight", 0, 5e37);
  fill("model.layers.0.self_attn.q_proj.weight", 0, 0);
  fill("model.layers.0.self_attn.k_proj.weight", 0, 0);
  fill("model.layers.0.self_attn.v_proj.weight", 0, 0);
  fill("model.layers.0.self_attn.o_proj.weight", 1e6, 0);
  ASSERT_OK(
      testing::WriteReferenceModel(model.reference, model.directory->path()));
  ASSERT_OK_AND_ASSIGN(model.files, ModelFiles::Open(model.directory->path()));
  TrainingOptions options = SmallTrainingOptions();
  options.full_parameter = true;
  ASSERT_OK_AND_ASSIGN(
      const auto run,
      TrainingRunImpl::Create(backend.get(), *model.files, options));
  const State before = StateOf(backend.get(), *run);
  const auto step = run->Step({{RandomExample({20}, 48, 1)}}, nullptr);
  EXPECT_THAT(
      step, StatusIs(absl::StatusCode::kInternal, HasSubstr("gradient norm")));
  EXPECT_EQ(GetErrorDetail(step.status()).reason, "NON_FINITE_GRADIENT");
  EXPECT_EQ(StateOf(backend.get(), *run), before);
  EXPECT_EQ(run->step(), 0);
}

// Two steps of AdamW with clipping and decay, written out in double.
// Dynamic NTK turns each packed document as its own length asks, and serving
// turns the same document alike.
TEST(TrainingRunTest, DynamicRopeKeepsDocumentsApart) {
  LlamaConfig config = SmallConfig(true);
  config.max_position_embeddings = 16;
  config.rope.kind = RopeKind::kDynamic;
  config.rope_factor = 8;
  ModelOnDisk model = MakeModel(config, 21);
  const auto backend = OpenTestBackend("cpu");
  TrainingOptions options = SmallTrainingOptions();
  options.context_tokens = 128;
  ASSERT_OK_AND_ASSIGN(
      const auto run,
      TrainingRun::Create(backend.get(), *model.files, options));
  ASSERT_OK_AND_ASSIGN(
      const auto weights,
      BaseWeights::Load(backend.get(), *model.files, WeightType::kFloat32));
  ASSERT_OK_AND_ASSIGN(const auto served,
                       ServedModel::Create(weights, nullptr, 0));
  TrainingExample packed;
  double nll_sum = 0, targets = 0;
  for (const int64_t tokens : {12, 60, 16, 33}) {
    const std::vector<int32_t> ids =
        RandomTokens(tokens, config.vocab_size, 5 + packed.token_ids.size());
    packed.token_ids.insert(packed.token_ids.end(), ids.begin(), ids.end());
    packed.document_tokens.push_back(tokens);
    ASSERT_OK_AND_ASSIGN(const auto score, served->Score(ids, 1, nullptr));
    nll_sum += score.nll_sum;
    targets += static_cast<double>(tokens - 1);
  }
  packed.supervised.assign(121, 1);
  ASSERT_OK_AND_ASSIGN(const double loss,
                       run->ValidationLoss({&packed, 1}, nullptr));
  EXPECT_TRUE(std::abs(loss - nll_sum / targets) <= 1e-6 * loss)
      << loss << " vs " << nll_sum / targets;
}

TEST(TrainingRunTest, OptimizerFollowsItsDefinition) {
  const auto backend = OpenTestBackend("cpu");
  const ModelOnDisk model = MakeModel(SmallConfig(false), 1);
  TrainingOptions options = SmallTrainingOptions();
  options.full_parameter = true;
  options.optimizer.weight_decay = 0.5;
  options.optimizer.clip_norm = 0.25;
  const OptimizerOptions& o = options.optimizer;
  ASSERT_OK_AND_ASSIGN(
      const auto run,
      TrainingRunImpl::Create(backend.get(), *model.files, options));
  const std::vector<TrainingExample> examples = {RandomExample({30}, 48, 1)};
  State want = StateOf(backend.get(), *run);
  for (int step = 1; step <= 2; ++step) {
    ASSERT_OK_AND_ASSIGN(const StepMetrics metrics,
                         run->Step(examples, nullptr));
    double squares = 0;
    for (const auto& [name, gradient] : Gradients(backend.get(), *run)) {
      for (const float g : gradient) squares += static_cast<double>(g) * g;
    }
    EXPECT_TRUE(std::abs(metrics.gradient_norm - std::sqrt(squares)) <=
                1e-5 * metrics.gradient_norm);
    ASSERT_GT(metrics.gradient_norm, o.clip_norm);  // or nothing is clipped
    const double scale = o.clip_norm / metrics.gradient_norm;
    for (const auto& [name, gradient] : Gradients(backend.get(), *run)) {
      const bool decays = name.find("norm") == std::string::npos &&
                          name.find("embed") == std::string::npos;
      const double decay = decays ? o.weight_decay : 0;
      for (size_t i = 0; i < gradient.size(); ++i) {
        const double g = scale * gradient[i];
        float& p = want[name][i];
        float& m = want[name + " m"][i];
        float& v = want[name + " v"][i];
        m = static_cast<float>(o.beta1 * m + (1 - o.beta1) * g);
        v = static_cast<float>(o.beta2 * v + (1 - o.beta2) * g * g);
        const double m_hat = m / (1 - std::pow(o.beta1, step));
        const double v_hat = v / (1 - std::pow(o.beta2, step));
        const double lr = o.learning_rate * step / 2;  // 2 warm-up steps
        p = static_cast<float>(
            p - lr * (m_hat / (std::sqrt(v_hat) + o.eps) + decay * p));
      }
    }
  }
  for (const auto& [name, values] : StateOf(backend.get(), *run)) {
    double largest = 0;
    for (const float x : values) largest = std::max(largest, std::abs(1.0 * x));
    EXPECT_TRUE(testing::AllClose(values, want.at(name), 1e-4 * largest))
        << name;
  }
}

TEST(TrainingRunTest, RejectsBadExamplesByName) {
  const auto backend = OpenTestBackend("cpu");
  const ModelOnDisk model = MakeModel(SmallConfig(true), 1);
  ASSERT_OK_AND_ASSIGN(
      const auto run,
      TrainingRun::Create(backend.get(), *model.files, SmallTrainingOptions()));
  const auto rejects = [&](auto change, const char* text) {
    TrainingExample e = RandomExample({20, 10}, 48, 1);
    change(&e);
    EXPECT_THAT(run->Step({{e}}, nullptr),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(text)));
  };
  rejects([](auto* e) { e->token_ids[3] = 48; }, "token_ids[3] is 48");
  rejects([](auto* e) { e->token_ids[0] = -1; }, "token_ids[0] is -1");
  rejects([](auto* e) { e->supervised.assign(30, 0); }, "no supervised token");
  rejects(
      [](auto* e) {
        e->supervised.assign(30, 0);
        e->supervised[20] = 1;  // first of its document: follows nothing
      },
      "no supervised token");
  rejects([](auto* e) { e->supervised.pop_back(); }, "supervised has 29");
  rejects([](auto* e) { e->document_tokens = {20, 9}; }, "sums to 29");
  rejects([](auto* e) { e->document_tokens = {20, 0, 10}; }, "0 tokens");
  rejects([](auto* e) { *e = RandomExample({65}, 48, 1); }, "65 tokens");
  EXPECT_THAT(run->Step({}, nullptr),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("examples of a step are 0")));
}

TEST(TrainingRunTest, PlanPredictsThePeak) {
  const ModelOnDisk model = MakeModel(SmallConfig(false), 1);
  const std::vector<TrainingExample> examples = {
      RandomExample({40}, 48, 1), RandomExample({20, 20}, 48, 3)};
  for (int variant = 0; variant < 8; ++variant) {
    TrainingOptions options = SmallTrainingOptions();
    options.micro_batch_examples = 2;
    options.full_parameter = (variant & 1) != 0;
    options.keep_activations = (variant & 2) != 0;
    options.matrix_dtype =
        (variant & 4) != 0 ? kernels::DType::kBF16 : kernels::DType::kF32;
    ASSERT_OK_AND_ASSIGN(const TrainingPlan plan,
                         PlanTraining(model.files->config(), options, 40));
    const auto backend = OpenTestBackend("cpu");
    ASSERT_OK_AND_ASSIGN(
        const auto run,
        TrainingRun::Create(backend.get(), *model.files, options));
    ASSERT_OK(run->Step(examples, nullptr));
    const auto measured = static_cast<double>(backend->peak_bytes());
    EXPECT_TRUE(std::abs(static_cast<double>(plan.peak_bytes) - measured) <=
                0.1 * measured)
        << "variant " << variant << ": planned " << plan.peak_bytes
        << ", measured " << measured;
    EXPECT_EQ(plan.trainable_parameters, run->trainable_parameters());
    EXPECT_EQ(plan.shifted_heads, 1);
    EXPECT_EQ(plan.group_size_tokens, 10);
    EXPECT_EQ(plan.sink_tokens, 4);
    if (options.full_parameter) {
      EXPECT_EQ(plan.trainable_parameters,
                model.files->config().parameter_count());
    }
  }
}

// return_ratio 0 leaves all of the second half of the heads shifted, 1 none of
// it: from the options to every bit of loss and gradients.
TEST(TrainingRunTest, ReturnRatioZeroIsS2AndOneIsShort) {
  const ModelOnDisk model = MakeModel(SmallConfig(true), 9);
  const std::vector<TrainingExample> examples = {
      RandomExample({40, 13}, 48, 51), RandomExample({53}, 48, 53)};
  const auto gradients = [&](PatternKind pattern, double return_ratio) {
    TrainingOptions options = SmallTrainingOptions();
    options.full_parameter = true;
    options.micro_batch_examples = 2;
    options.attention.pattern = pattern;
    options.attention.group_size_tokens = 8;
    options.attention.return_ratio = return_ratio;
    options.attention.sink_tokens = 0;
    const auto backend = OpenTestBackend("cpu");
    const auto run =
        TrainingRunImpl::Create(backend.get(), *model.files, options);
    EXPECT_OK(run);
    const auto loss = (*run)->ComputeGradients(examples, nullptr);
    EXPECT_OK(loss);
    return std::pair(*loss, Gradients(backend.get(), **run));
  };
  const auto s2 = gradients(PatternKind::kS2, 0.5);
  const auto plain = gradients(PatternKind::kShort, 0.5);
  EXPECT_NE(s2, plain);
  for (const PatternKind pattern :
       {PatternKind::kSf, PatternKind::kSegmentReassemble}) {
    EXPECT_EQ(gradients(pattern, 0), s2);
    EXPECT_EQ(gradients(pattern, 1), plain);
    const auto half = gradients(pattern, 0.5);
    EXPECT_NE(half, s2);
    EXPECT_NE(half, plain);
  }
}

TEST(TrainingRunTest, InitialLoraMatricesAreAsInPeft) {
  const auto backend = OpenTestBackend("cpu");
  const ModelOnDisk model = MakeModel(SmallConfig(true), 1);
  TrainingOptions options = SmallTrainingOptions();
  options.lora.rank = 16;
  ASSERT_OK_AND_ASSIGN(
      const auto run,
      TrainingRunImpl::Create(backend.get(), *model.files, options));
  const std::string module = "model.layers.1.self_attn.o_proj";
  const auto* a = run->trainables().Find(module + internal::kLoraASuffix);
  const auto* b = run->trainables().Find(module + internal::kLoraBSuffix);
  ASSERT_NE(a, nullptr);
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(a->spec.shape, (std::vector<int64_t>{16, 32}));
  EXPECT_EQ(b->spec.shape, (std::vector<int64_t>{32, 16}));
  ASSERT_OK_AND_ASSIGN(const auto a_values,
                       internal::Download(backend.get(), a->master.view()));
  ASSERT_OK_AND_ASSIGN(const auto b_values,
                       internal::Download(backend.get(), b->master.view()));
  const double bound = 1 / std::sqrt(32.0);
  double squares = 0;
  for (const float x : a_values) {
    EXPECT_LE(std::abs(x), bound);
    squares += x * x;
  }
  // Variance of a uniform distribution: bound^2 / 3.
  EXPECT_NEAR(squares / static_cast<double>(a_values.size()), bound * bound / 3,
              0.2 * bound * bound / 3);
  for (const float x : b_values) EXPECT_EQ(x, 0.0f);
}

}  // namespace
}  // namespace sinklora
