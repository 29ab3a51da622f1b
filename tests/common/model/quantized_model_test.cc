// Models that are served from packed weights.
//
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "common/model/internal/served_model_impl.h"
#include "tests/common/model/adapter_goldens.h"
#include "tests/common/model/serving_fixture.h"

namespace sinklora {
namespace {

using ::testing::HasSubstr;
using testing::ReferenceModel;
using testing::StatusIs;

constexpr WeightType kPacked[] = {WeightType::kInt8, WeightType::kInt4};

// `model` with the values that `weights` really has.
ReferenceModel WithValuesOf(const internal::BaseWeightsImpl& weights,
                            ReferenceModel model) {
  for (auto& [name, matrix] : model.tensors) {
    const internal::MatrixView view = weights.tensor(name);
    if (view.quantized.empty()) continue;
    for (int64_t r = 0; r < matrix.rows; ++r) {
      for (int64_t c = 0; c < matrix.cols; ++c) {
        matrix.values[r * matrix.cols + c] =
            double{kernels::QuantizedScale(view.quantized, r, c)} *
            kernels::QuantizedLevel(view.quantized, r, c);
      }
    }
  }
  return model;
}

const internal::BaseWeightsImpl& Impl(const Served& served) {
  return static_cast<const internal::BaseWeightsImpl&>(*served.weights);
}

// [tokens, vocab] in double.
std::vector<double> ReferenceLogits(const ReferenceModel& model,
                                    const std::vector<int32_t>& tokens) {
  testing::ReferenceBatch batch;
  batch.ids = tokens;
  batch.labels.assign(tokens.size(), -1);
  const auto count = static_cast<int64_t>(tokens.size());
  batch.documents = {{count, count}};
  return testing::RunReference(model, batch, 1.0).logits;
}

// Products of the prompt round both factors to bf16: 2^-9 each, in each of two
// layers and at both ends of them. Four times that, of the largest logit.
constexpr double kBf16Tolerance = 4 * 4 * 2 * 0x1p-9;

TEST(QuantizedModelTest, LogitsAreThoseOfTheValuesThatArePacked) {
  const std::vector<int32_t> tokens = RandomTokens(40, 48, 9);
  for (const auto& [name, config] : SmallArchitectures()) {
    for (const WeightType type : kPacked) {
      for (const char* backend : {"cpu", "reference"}) {
        const Served served = Serve(config, 11, type, 0, backend);
        const ReferenceModel model =
            WithValuesOf(Impl(served), served.disk.reference);
        const std::vector<double> want = ReferenceLogits(model, tokens);
        const Trace got = RunSequence(served, FullCache(), tokens, 20, 7);
        ASSERT_EQ(got.logits.size(), 21u);
        for (size_t step = 0; step < got.logits.size(); ++step) {
          const double* row = want.data() + (19 + step) * 48;
          double largest = 0;
          for (int i = 0; i < 48; ++i) {
            largest = std::max(largest, std::abs(row[i]));
          }
          for (int i = 0; i < 48; ++i) {
            ASSERT_NEAR(got.logits[step][i], row[i], kBf16Tolerance * largest)
                << name << ' ' << NameOf(type) << ' ' << backend << " step "
                << step;
          }
        }
      }
    }
  }
}

TEST(QuantizedModelTest, ScoreAgreesWithTheLogits) {
  const std::vector<int32_t> tokens = RandomTokens(40, 48, 9);
  for (const WeightType type : kPacked) {
    const Served served = Serve(SmallConfig(false), 11, type);
    const ReferenceModel model =
        WithValuesOf(Impl(served), served.disk.reference);
    const std::vector<double> logits = ReferenceLogits(model, tokens);
    double want = 0;
    for (size_t t = 1; t < tokens.size(); ++t) {
      const double* row = logits.data() + (t - 1) * 48;
      const double top = *std::max_element(row, row + 48);
      double sum = 0;
      for (int i = 0; i < 48; ++i) sum += std::exp(row[i] - top);
      want += top + std::log(sum) - row[tokens[t]];
    }
    ASSERT_OK_AND_ASSIGN(const auto got,
                         served.model->Score(tokens, 1, nullptr));
    EXPECT_EQ(got.scored_tokens, 39);
    EXPECT_NEAR(got.nll_sum, want, 0.02 * want) << NameOf(type);
  }
}

TEST(QuantizedModelTest, ThreadsDoNotChangeBits) {
  const std::vector<int32_t> tokens = RandomTokens(60, 48, 77);
  const ModelOnDisk disk = MakeModel(SmallConfig(false), 3, 0.3);
  for (const WeightType type : kPacked) {
    std::vector<Trace> traces;
    for (const int threads : {1, 2, 3}) {
      Served served;
      served.backend = OpenTestBackend("cpu", threads);
      ASSERT_OK_AND_ASSIGN(
          served.weights,
          BaseWeights::Load(served.backend.get(), *disk.files, type));
      ASSERT_OK_AND_ASSIGN(served.model,
                           ServedModel::Create(served.weights, nullptr, 0));
      traces.push_back(RunSequence(served, H2oCache(8, 2, 10), tokens, 45, 45));
    }
    EXPECT_EQ(traces[1], traces[0]) << NameOf(type);
    EXPECT_EQ(traces[2], traces[0]) << NameOf(type);
  }
}

// Base packed and left as it is, low-rank products in f32, rows rescaled by
// DoRA from what the packed base holds: close to the f32 base with the same
// adapter. (Merging would lose the adapter in the rounding of the base.)
TEST(QuantizedModelTest, EveryKindOfAdapterWorksOnPackedBases) {
  for (const char* name : kGoldenAdapters) {
    ASSERT_OK_AND_ASSIGN(const AdapterGolden golden, AdapterGolden::Load(name));
    const auto backend = OpenTestBackend("cpu");
    const auto score = [&](WeightType type, bool adapted) {
      auto weights = BaseWeights::Load(backend.get(), *golden.base, type);
      EXPECT_OK(weights.status());
      auto model =
          ServedModel::Create(*weights, adapted ? &golden.adapter : nullptr, 0);
      EXPECT_OK(model.status());
      auto result = (*model)->Score(golden.ids, 1, nullptr);
      EXPECT_OK(result.status());
      return result->nll_sum;
    };
    const double want = score(WeightType::kFloat32, true);
    EXPECT_NEAR(score(WeightType::kInt8, true), want, 0.01 * want) << name;
    EXPECT_NEAR(score(WeightType::kInt4, true), want, 0.08 * want) << name;
  }
}

TEST(QuantizedModelTest, BytesAreThoseOfTheFormats) {
  const LlamaConfig config = SmallConfig(false);
  for (const WeightType type : kPacked) {
    const Served served = Serve(config, 3, type);
    int64_t bytes = 0;
    for (const auto& [name, shape] : LlamaTensors(config)) {
      if (internal::IsVector(name)) {
        bytes += 4 * shape[0];
        continue;
      }
      const bool edge =
          name == internal::kEmbeddingTensor || name == internal::kHeadTensor;
      bytes += kernels::QuantizedBytes(type == WeightType::kInt8 || edge
                                           ? kernels::QuantizedFormat::kInt8
                                           : kernels::QuantizedFormat::kInt4,
                                       shape[0], shape[1]);
    }
    EXPECT_EQ(served.weights->weight_bytes(), bytes);
    EXPECT_EQ(served.weights->weight_type(), type);
  }
}

// While a model loads, one matrix exists twice, never the whole model.
TEST(QuantizedModelTest, LoadingHoldsOneMatrixTwice) {
  const ModelOnDisk disk = MakeModel(SmallConfig(false), 3);
  int64_t largest = 0;
  for (const auto& [name, shape] : LlamaTensors(SmallConfig(false))) {
    if (shape.size() == 2) largest = std::max(largest, shape[0] * shape[1] * 4);
  }
  for (const WeightType type : kPacked) {
    const auto backend = OpenTestBackend("cpu");
    ASSERT_OK_AND_ASSIGN(const auto weights,
                         BaseWeights::Load(backend.get(), *disk.files, type));
    EXPECT_EQ(backend->allocated_bytes(), weights->weight_bytes());
    EXPECT_LE(backend->peak_bytes(), weights->weight_bytes() + largest);
  }
}

TEST(QuantizedModelTest, RefusesWeightsThatAreNotFiniteByName) {
  ReferenceModel model = testing::RandomReferenceModel(SmallConfig(false), 3);
  const std::string name = "model.layers.1.mlp.up_proj.weight";
  model.tensors.at(name).values[5] = std::numeric_limits<double>::infinity();
  ASSERT_OK_AND_ASSIGN(const auto directory, TempDir::Create());
  ASSERT_OK(testing::WriteReferenceModel(model, directory->path()));
  ASSERT_OK_AND_ASSIGN(const auto files, ModelFiles::Open(directory->path()));
  const auto backend = OpenTestBackend("cpu");
  EXPECT_THAT(BaseWeights::Load(backend.get(), *files, WeightType::kInt4),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       ::testing::AllOf(HasSubstr(name), HasSubstr("[0][5]"))));
  EXPECT_EQ(backend->allocated_bytes(), 0);
}

TEST(QuantizedModelTest, TrainingRefusesWholeNumbersByName) {
  TrainingOptions options = SmallTrainingOptions();
  ASSERT_OK(Validate(options, SmallConfig(true)));
  options.matrix_dtype = kernels::DType::kI8;
  EXPECT_THAT(Validate(options, SmallConfig(true)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       ::testing::AllOf(HasSubstr("matrix_dtype"),
                                        HasSubstr("f32 or bf16"))));
}

TEST(QuantizedModelTest, OnlyBf16WeightsMakeBf16CachesTheDefault) {
  for (const WeightType type : {WeightType::kFloat32, WeightType::kBfloat16,
                                WeightType::kInt8, WeightType::kInt4}) {
    EXPECT_EQ(Serve(SmallConfig(true), 1, type).model->own_cache_storage(),
              type == WeightType::kBfloat16 ? CacheStorage::kBfloat16
                                            : CacheStorage::kFloat32);
  }
}

TEST(WeightTypeTest, NamesGoBothWays) {
  for (const WeightType type : {WeightType::kFloat32, WeightType::kBfloat16,
                                WeightType::kInt8, WeightType::kInt4}) {
    ASSERT_OK_AND_ASSIGN(const WeightType parsed,
                         ParseWeightType(NameOf(type)));
    EXPECT_EQ(parsed, type);
  }
  EXPECT_THAT(ParseWeightType("int5"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       ::testing::AllOf(HasSubstr("int5"), HasSubstr("int4"))));
}

}  // namespace
}  // namespace sinklora
