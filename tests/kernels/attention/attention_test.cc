// The property list of algorithms.md section 1, on the reference backend and
// the tested one.
//
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <limits>
#include <tuple>

#include "tests/kernels/attention/attention_fixture.h"
#include "tests/kernels/attention/dense_attention.h"
#include "tests/kernels/backends.h"
#include "tests/kernels/tolerances.h"
#include "tests/testing/tensor_near.h"

namespace sinklora::kernels {
namespace {

using testing::BitEqual;
using testing::HostTensor;
using testing::TensorNear;

// Normal inputs: |q . k| / sqrt(d) stays below this.
constexpr double kLargestScore = 6.0;

HostTensor ToTensor(const Cube& cube) {
  HostTensor out =
      HostTensor::Zeros(DType::kF32, {cube.tokens, cube.heads, cube.dim});
  for (int64_t t = 0; t < cube.tokens; ++t) {
    for (int64_t h = 0; h < cube.heads; ++h) {
      for (int64_t d = 0; d < cube.dim; ++d) {
        out.Set(cube.at(t, h, d), t, h, d);
      }
    }
  }
  return out;
}

int64_t Total(const std::vector<int64_t>& lengths, int64_t gap) {
  int64_t total = 0;
  for (int64_t length : lengths) total += length + gap;
  return total;
}

// "bf16" is the tested backend with bf16 products.
const std::string kBackends[] = {"reference", "tested", "bf16"};

std::unique_ptr<Backend> OpenFor(const std::string& name) {
  return Open(name == "reference" ? name : kTested);
}
DType ProductOf(const std::string& name) {
  return name == "bf16" ? DType::kBF16 : DType::kF32;
}

using Case = std::tuple<std::string, std::string>;  // backend, pattern

class AttentionTest : public ::testing::TestWithParam<Case> {
 protected:
  std::unique_ptr<Backend> backend_ = OpenFor(std::get<0>(GetParam()));
  const DType product_ = ProductOf(std::get<0>(GetParam()));
  template <typename... Args>
  AttentionInputs MakeInputs(Args... args) {
    AttentionInputs in = kernels::MakeInputs(args...);
    in.product_dtype = product_;
    return in;
  }
  NamedPattern Make(int64_t heads, int64_t group_size,
                    const std::vector<int64_t>& lengths, int64_t gap = 0) {
    return MakePattern(std::get<1>(GetParam()), heads, group_size, lengths,
                       gap);
  }
};

INSTANTIATE_TEST_SUITE_P(
    All, AttentionTest,
    ::testing::Combine(::testing::ValuesIn(kBackends),
                       ::testing::ValuesIn(PatternNames())),
    [](const auto& info) {
      return std::get<0>(info.param) + "_" + std::get<1>(info.param);
    });

TEST_P(AttentionTest, EqualsDenseMaskOverRaggedPackedDocuments) {
  const std::vector<std::vector<int64_t>> batches = {
      {1}, {63}, {64}, {65}, {130}, {1, 17, 0, 70, 2, 101}};
  for (const auto& lengths : batches) {
    for (int64_t group : {1, 7, 32, 1000}) {
      for (int64_t gap : {0, 3}) {
        const int64_t tokens = Total(lengths, gap);
        const auto [name, pattern] = Make(4, group, lengths, gap);
        const AttentionInputs in = MakeInputs(tokens, 4, 2, 8, 11, gap);
        const AttentionResults got = RunForward(*backend_, in, pattern, gap);
        const HostTensor want = ToTensor(DenseAttention(
            Cube(in.q), Cube(in.k), Cube(in.v), pattern, in.scale));
        EXPECT_TRUE(TensorNear(got.out.view(), want.view(),
                               AttentionTolerance(8, kLargestScore, product_)))
            << name << " tokens " << tokens << " group " << group;
        EXPECT_EQ(LivePairs(pattern, 4), CountAllowed(pattern, 4, tokens));
      }
    }
  }
}

TEST_P(AttentionTest, ChangingATokenLeavesEarlierOutputsBitEqual) {
  const auto [name, pattern] = Make(4, 32, {90, 75});
  AttentionInputs in = MakeInputs(165, 4, 2, 16, 21);
  const AttentionResults before = RunForward(*backend_, in, pattern);
  for (int64_t t : {0, 1, 31, 32, 64, 89, 90, 95, 150, 164}) {
    AttentionInputs changed = in;
    for (double value : {1e4, std::numeric_limits<double>::quiet_NaN()}) {
      for (int64_t d = 0; d < 16; ++d) {
        changed.q.Set(value, t, 1, d);
        changed.k.Set(value, t, 0, d);
        changed.v.Set(-value, t, 1, d);
      }
      const AttentionResults after = RunForward(*backend_, changed, pattern);
      if (t == 0) continue;
      EXPECT_TRUE(
          BitEqual(after.out.view().Rows(0, t), before.out.view().Rows(0, t)))
          << "token " << t << " changed to " << value;
    }
  }
}

TEST_P(AttentionTest, DocumentsDoNotSeeEachOther) {
  const auto [name, pattern] = Make(4, 16, {40, 70, 33});
  const AttentionInputs in = MakeInputs(143, 4, 2, 8, 31);
  const AttentionResults before = RunBoth(*backend_, in, pattern);
  AttentionInputs changed = in;
  for (int64_t t = 40; t < 110; ++t) {
    for (int64_t d = 0; d < 8; ++d) {
      for (int64_t h = 0; h < 2; ++h) {
        changed.k.Set(3.0, t, h, d);
        changed.v.Set(-5.0, t, h, d);
      }
      changed.q.Set(2.0, t, 3, d);
      changed.dout.Set(7.0, t, 0, d);
    }
  }
  const AttentionResults after = RunBoth(*backend_, changed, pattern);
  const auto same = [&](const HostTensor& a, const HostTensor& b) {
    return BitEqual(a.view().Rows(0, 40), b.view().Rows(0, 40)) &&
           BitEqual(a.view().Rows(110, 33), b.view().Rows(110, 33));
  };
  EXPECT_TRUE(same(after.out, before.out));
  EXPECT_TRUE(same(after.dq, before.dq));
  EXPECT_TRUE(same(after.dk, before.dk));
  EXPECT_TRUE(same(after.dv, before.dv));
  EXPECT_FALSE(BitEqual(after.out.view(), before.out.view()));
}

TEST_P(AttentionTest, GroupedQueryEqualsRepeatedKeysAndValues) {
  const auto [name, pattern] = Make(6, 32, {77, 20});
  const AttentionInputs grouped = MakeInputs(97, 6, 2, 24, 41);
  AttentionInputs repeated = MakeInputs(97, 6, 6, 24, 41);
  for (int64_t t = 0; t < 97; ++t) {
    for (int64_t h = 0; h < 6; ++h) {
      for (int64_t d = 0; d < 24; ++d) {
        repeated.k.Set(grouped.k.Get(t, h / 3, d), t, h, d);
        repeated.v.Set(grouped.v.Get(t, h / 3, d), t, h, d);
        repeated.q.Set(grouped.q.Get(t, h, d), t, h, d);
        repeated.dout.Set(grouped.dout.Get(t, h, d), t, h, d);
      }
    }
  }
  const AttentionResults a = RunBoth(*backend_, grouped, pattern);
  const AttentionResults b = RunBoth(*backend_, repeated, pattern);
  EXPECT_TRUE(BitEqual(a.out.view(), b.out.view()));
  EXPECT_TRUE(BitEqual(a.lse.view(), b.lse.view()));
  EXPECT_TRUE(BitEqual(a.dq.view(), b.dq.view()));
  HostTensor dk = HostTensor::Zeros(DType::kF32, {97, 2, 24});
  HostTensor dv = dk;
  for (int64_t t = 0; t < 97; ++t) {
    for (int64_t d = 0; d < 24; ++d) {
      for (int64_t kv = 0; kv < 2; ++kv) {
        double sum_k = 0.0;
        double sum_v = 0.0;
        for (int64_t h = kv * 3; h < kv * 3 + 3; ++h) {
          sum_k += b.dk.Get(t, h, d);
          sum_v += b.dv.Get(t, h, d);
        }
        dk.Set(sum_k, t, kv, d);
        dv.Set(sum_v, t, kv, d);
      }
    }
  }
  const auto tolerance = AttentionGradientTolerance(24, 97, kLargestScore);
  EXPECT_TRUE(TensorNear(a.dk.view(), dk.view(), tolerance));
  EXPECT_TRUE(TensorNear(a.dv.view(), dv.view(), tolerance));
}

TEST_P(AttentionTest, SecondRunGivesEqualBits) {
  const auto [name, pattern] = Make(4, 50, {141, 60});
  const AttentionInputs in = MakeInputs(201, 4, 2, 16, 51);
  const AttentionResults a = RunBoth(*backend_, in, pattern);
  const AttentionResults b = RunBoth(*backend_, in, pattern);
  EXPECT_TRUE(BitEqual(a.out.view(), b.out.view()));
  EXPECT_TRUE(BitEqual(a.lse.view(), b.lse.view()));
  EXPECT_TRUE(BitEqual(a.dq.view(), b.dq.view()));
  EXPECT_TRUE(BitEqual(a.dk.view(), b.dk.view()));
  EXPECT_TRUE(BitEqual(a.dv.view(), b.dv.view()));
}

// Adds rows [begin, begin + tokens.size()) of `part` to rows `tokens` of `sum`.
void AddRows(const HostTensor& part, const std::vector<int64_t>& tokens,
             HostTensor* sum) {
  const auto shape = part.view().shape;
  for (size_t t = 0; t < tokens.size(); ++t) {
    for (int64_t h = 0; h < shape[1]; ++h) {
      for (int64_t d = 0; d < shape[2]; ++d) {
        const double value = part.Get(static_cast<int64_t>(t), h, d);
        sum->Set(sum->Get(tokens[t], h, d) + value, tokens[t], h, d);
      }
    }
  }
}

// A document in two parts, the second with what it sees of the first as its
// lead: outputs and query gradients are those of the whole, and key gradients
// add up to them.
TEST_P(AttentionTest, PartsOfADocumentAddUpToTheWhole) {
  const std::string& name = std::get<1>(GetParam());
  const int64_t group = 32, tokens = 150;
  const auto whole = Make(4, group, {tokens}).pattern;
  if (name.starts_with("full") || (whole.window > 0 && whole.sink_tokens > 0)) {
    return;  // not cut: a part sees more than sinks and half a group
  }
  const AttentionInputs in = MakeInputs(tokens, 4, 2, 16, 61);
  const AttentionResults want = RunBoth(*backend_, in, whole);
  const auto forward = AttentionTolerance(16, kLargestScore, product_);
  const auto backward =
      AttentionGradientTolerance(16, tokens, kLargestScore, product_);
  for (const int64_t cut : {32, 96}) {
    const int64_t sinks = whole.sink_tokens;
    const int64_t halo = whole.shifted_heads > 0 ? group / 2 : 0;
    const int64_t lead = sinks + halo;
    std::vector<int64_t> before, after;
    for (int64_t t = 0; t < tokens; ++t) {
      if (t < cut) before.push_back(t);
      if (t < sinks || t >= cut - halo) after.push_back(t);
    }
    AttentionPattern first = whole, second = whole;
    first.segments = {{0, cut, group}};
    second.segments = {{0, tokens - cut + lead, group, lead}};
    EXPECT_EQ(LivePairs(first, 4) + LivePairs(second, 4), LivePairs(whole, 4));
    EXPECT_EQ(LivePairs(second, 4),
              CountAllowed(second, 4, tokens - cut + lead));
    const AttentionInputs part = Pick(in, after, lead);
    const AttentionResults a = RunBoth(*backend_, Pick(in, before, 0), first);
    const AttentionResults b = RunBoth(*backend_, part, second);
    const auto own = [&](const HostTensor& x) {
      return x.view().Rows(lead, tokens - cut);
    };
    EXPECT_TRUE(TensorNear(own(b.out), want.out.view().Rows(cut, tokens - cut),
                           forward));
    EXPECT_TRUE(TensorNear(own(b.dq), want.dq.view().Rows(cut, tokens - cut),
                           backward));
    HostTensor dk = HostTensor::Zeros(DType::kF32, {tokens, 2, 16});
    HostTensor dv = dk;
    for (const auto& [result, rows] : {std::pair{&a, &before}, {&b, &after}}) {
      AddRows(result->dk, *rows, &dk);
      AddRows(result->dv, *rows, &dv);
    }
    EXPECT_TRUE(TensorNear(dk.view(), want.dk.view(), backward));
    EXPECT_TRUE(TensorNear(dv.view(), want.dv.view(), backward));
    for (int64_t t = 0; t < lead; ++t) {
      for (int64_t h = 0; h < 4; ++h) {
        EXPECT_EQ(b.lse.Get(h, t), 0);
        for (int64_t d = 0; d < 16; ++d) {
          EXPECT_EQ(b.out.Get(t, h, d), 0);
          EXPECT_EQ(b.dq.Get(t, h, d), 0);
        }
      }
    }
  }
}

// A lead longer than anyone sees, between other documents and their gaps.
TEST_P(AttentionTest, LeadsEqualTheDenseMask) {
  auto [name, pattern] = Make(4, 16, {20, 110, 40}, 3);
  pattern.segments[1].lead = 37;
  pattern.segments[2].lead = 40;  // keys alone
  const int64_t tokens = 179;
  EXPECT_EQ(LivePairs(pattern, 4), CountAllowed(pattern, 4, tokens));
  const AttentionInputs in = MakeInputs(tokens, 4, 2, 8, 63);
  const AttentionResults got = RunBoth(*backend_, in, pattern);
  const HostTensor want = ToTensor(
      DenseAttention(Cube(in.q), Cube(in.k), Cube(in.v), pattern, in.scale));
  EXPECT_TRUE(TensorNear(got.out.view(), want.view(),
                         AttentionTolerance(8, kLargestScore, product_)));
  const AttentionResults reference = RunBoth(*Open("reference"), in, pattern);
  const auto tolerance =
      AttentionGradientTolerance(8, tokens, kLargestScore, product_);
  EXPECT_TRUE(TensorNear(got.dq.view(), reference.dq.view(), tolerance));
  EXPECT_TRUE(TensorNear(got.dk.view(), reference.dk.view(), tolerance));
  EXPECT_TRUE(TensorNear(got.dv.view(), reference.dv.view(), tolerance));
}

class AttentionBackendTest : public ::testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Backend> backend_ = OpenFor(GetParam());
  const DType product_ = ProductOf(GetParam());
  template <typename... Args>
  AttentionInputs MakeInputs(Args... args) {
    AttentionInputs in = kernels::MakeInputs(args...);
    in.product_dtype = product_;
    return in;
  }
};

INSTANTIATE_TEST_SUITE_P(All, AttentionBackendTest,
                         ::testing::ValuesIn(kBackends));

TEST_P(AttentionBackendTest, SinksCoveringOneGroupEqualFull) {
  const AttentionInputs in = MakeInputs(100, 4, 2, 16, 71);
  AttentionPattern full{.segments = {{0, 100, 100}}};
  AttentionPattern sinks{.segments = {{0, 100, 100}}, .sink_tokens = 100};
  const AttentionResults a = RunBoth(*backend_, in, full);
  const AttentionResults b = RunBoth(*backend_, in, sinks);
  EXPECT_TRUE(BitEqual(a.out.view(), b.out.view()));
  EXPECT_TRUE(BitEqual(a.dk.view(), b.dk.view()));
}

TEST_P(AttentionBackendTest, SinksBeyondTheLengthEqualFullInValue) {
  const AttentionInputs in = MakeInputs(100, 4, 2, 16, 73);
  AttentionPattern full{.segments = {{0, 100, 100}}};
  AttentionPattern sinks{
      .segments = {{0, 100, 8}}, .shifted_heads = 2, .sink_tokens = 500};
  EXPECT_EQ(LivePairs(full, 4), LivePairs(sinks, 4));
  const AttentionResults a = RunForward(*backend_, in, full);
  const AttentionResults b = RunForward(*backend_, in, sinks);
  EXPECT_TRUE(TensorNear(b.out.view(), a.out.view(),
                         AttentionTolerance(16, kLargestScore, product_)));
}

// Un-shifted heads do not notice that others are shifted.
TEST_P(AttentionBackendTest, FirstHalfOfS2IsShort) {
  const AttentionInputs in = MakeInputs(130, 4, 4, 16, 74);
  const AttentionResults s2 =
      RunForward(*backend_, in, MakePattern("s2", 4, 32, {130}).pattern);
  const AttentionResults plain =
      RunForward(*backend_, in, MakePattern("short", 4, 32, {130}).pattern);
  for (int64_t t = 0; t < 130; ++t) {
    for (int64_t d = 0; d < 16; ++d) {
      EXPECT_EQ(s2.out.Get(t, 1, d), plain.out.Get(t, 1, d));
    }
  }
}

TEST_P(AttentionBackendTest, WindowOfTheLengthIsNone) {
  const AttentionInputs in = MakeInputs(130, 4, 2, 16, 81);
  for (const char* name : {"full", "sf"}) {
    const auto none = MakePattern(name, 4, 40, {130}).pattern;
    auto wide = none;
    wide.window = 130;
    EXPECT_EQ(LivePairs(wide, 4), LivePairs(none, 4));
    const AttentionResults a = RunBoth(*backend_, in, none);
    const AttentionResults b = RunBoth(*backend_, in, wide);
    EXPECT_TRUE(BitEqual(a.out.view(), b.out.view()));
    EXPECT_TRUE(BitEqual(a.dq.view(), b.dq.view()));
    EXPECT_TRUE(BitEqual(a.dk.view(), b.dk.view()));
    EXPECT_TRUE(BitEqual(a.dv.view(), b.dv.view()));
  }
}

// Sinks included: the window takes them too.
TEST_P(AttentionBackendTest, TokensBeforeTheWindowDoNotShow) {
  const int64_t tokens = 200;
  const AttentionInputs in = MakeInputs(tokens, 4, 2, 16, 82);
  for (const int64_t window : {1, 20, 64, 90}) {
    for (const char* name : {"full", "s2_sinks"}) {
      auto pattern = MakePattern(name, 4, 150, {tokens}).pattern;
      pattern.window = window;
      const AttentionResults before = RunForward(*backend_, in, pattern);
      for (const int64_t t : {0, 3, 63, 64, 100}) {
        AttentionInputs changed = in;
        for (int64_t d = 0; d < 16; ++d) {
          for (int64_t h = 0; h < 2; ++h) {
            changed.k.Set(std::numeric_limits<double>::quiet_NaN(), t, h, d);
            changed.v.Set(std::numeric_limits<double>::quiet_NaN(), t, h, d);
          }
        }
        const AttentionResults after = RunForward(*backend_, changed, pattern);
        const int64_t from = t + window;
        EXPECT_TRUE(BitEqual(after.out.view().Rows(from, tokens - from),
                             before.out.view().Rows(from, tokens - from)))
            << name << " window " << window << " token " << t;
      }
    }
  }
}

void RoundToBf16(HostTensor* x) {
  const auto shape = x->view().shape;
  for (int64_t t = 0; t < shape[0]; ++t) {
    for (int64_t h = 0; h < shape[1]; ++h) {
      for (int64_t d = 0; d < shape[2]; ++d) {
        const auto value = static_cast<float>(x->Get(t, h, d));
        x->Set(FromBf16(ToBf16(value)), t, h, d);
      }
    }
  }
}

TEST_P(AttentionBackendTest, LargeLogitsStayFiniteAndRight) {
  const auto reference = Open("reference");
  AttentionInputs in = MakeInputs(90, 2, 1, 16, 81, 0, 200.0);
  double rounding = 0;
  if (product_ == DType::kBF16) {
    // Rounding the operands of scores this large would decide between keys; the
    // scale is a power of two, so these lose nothing.
    for (HostTensor* x : {&in.q, &in.k, &in.v}) RoundToBf16(x);
    rounding = kBF16Rounding;
  }
  const auto pattern = MakePattern("sf", 2, 32, {90}).pattern;
  const AttentionResults got = RunBoth(*backend_, in, pattern);
  const AttentionResults want = RunBoth(*reference, in, pattern);
  auto forward = AttentionTolerance(16, 200.0 * kLargestScore);
  auto backward = AttentionGradientTolerance(16, 90, 200.0 * kLargestScore);
  forward.of_largest += rounding;         // probabilities
  backward.of_largest += 4.0 * rounding;  // dout and the score gradients too
  EXPECT_TRUE(TensorNear(got.out.view(), want.out.view(), forward));
  EXPECT_TRUE(TensorNear(got.dq.view(), want.dq.view(), backward));
}

// What a query does not see has no part in its gradient, not even times zero.
TEST_P(AttentionBackendTest, NaNKeysLeaveEarlierQueryGradientsBitEqual) {
  const AttentionInputs in = MakeInputs(165, 4, 2, 16, 23);
  for (const char* name : {"full", "sf", "s2_sinks"}) {
    auto pattern = MakePattern(name, 4, 32, {90, 75}).pattern;
    for (const int64_t window : {0, 20}) {
      pattern.window = window;
      const AttentionResults before = RunBoth(*backend_, in, pattern);
      for (const int64_t t : {1, 31, 64, 89, 90, 95, 150, 164}) {
        AttentionInputs changed = in;
        for (int64_t d = 0; d < 16; ++d) {
          for (int64_t h = 0; h < 2; ++h) {
            changed.k.Set(std::numeric_limits<double>::quiet_NaN(), t, h, d);
          }
        }
        const AttentionResults after = RunBoth(*backend_, changed, pattern);
        EXPECT_TRUE(
            BitEqual(after.dq.view().Rows(0, t), before.dq.view().Rows(0, t)))
            << name << " window " << window << " token " << t;
      }
    }
  }
}

// Queries of so many groups see the sinks that a backend may cut them.
TEST_P(AttentionBackendTest, SinksOfLongDocumentsMatchReference) {
  const int64_t tokens = 4200;
  const AttentionInputs in = MakeInputs(tokens, 2, 1, 8, 84);
  const auto pattern = MakePattern("sf", 2, 32, {tokens - 50, 50}).pattern;
  const AttentionResults got = RunBoth(*backend_, in, pattern);
  const AttentionResults want = RunBoth(*Open("reference"), in, pattern);
  const auto tolerance =
      AttentionGradientTolerance(8, tokens, kLargestScore, product_);
  EXPECT_TRUE(TensorNear(got.dq.view(), want.dq.view(), tolerance));
  EXPECT_TRUE(TensorNear(got.dk.view(), want.dk.view(), tolerance));
  EXPECT_TRUE(TensorNear(got.dv.view(), want.dv.view(), tolerance));
  EXPECT_TRUE(
      BitEqual(RunBoth(*backend_, in, pattern).dk.view(), got.dk.view()));
}

TEST_P(AttentionBackendTest, NoTokensAndNoSegmentsAreFine) {
  const AttentionPattern none;
  AttentionInputs in = MakeInputs(0, 2, 1, 8, 82);
  RunBoth(*backend_, in, none);
  in = MakeInputs(5, 2, 1, 8, 83);
  const AttentionResults r = RunBoth(*backend_, in, none);
  const HostTensor zero = HostTensor::Zeros(DType::kF32, {5, 2, 8});
  EXPECT_TRUE(BitEqual(r.out.view(), zero.view()));
  EXPECT_TRUE(BitEqual(r.dq.view(), zero.view()));
  EXPECT_TRUE(
      BitEqual(r.dk.view(), HostTensor::Zeros(DType::kF32, {5, 1, 8}).view()));
}

TEST_P(AttentionBackendTest, RefusesBadParams) {
  const AttentionInputs in = MakeInputs(10, 4, 2, 8, 91);
  AttentionPattern pattern{.segments = {{0, 10, 4}}};
  HostTensor out = HostTensor::NaNs(DType::kF32, {10, 4, 8});
  const HostTensor untouched = out;
  AttentionForwardParams good{.q = in.q.view(),
                              .k = in.k.view(),
                              .v = in.v.view(),
                              .pattern = &pattern,
                              .scale = 1.0f,
                              .out = out.view()};
  const auto refused = [&](const AttentionForwardParams& p,
                           std::initializer_list<std::string_view> parts) {
    return Refused(backend_->AttentionForward(p), parts);
  };
  AttentionForwardParams p = good;
  p.pattern = nullptr;
  EXPECT_TRUE(refused(p, {"attention_forward", "pattern is null"}));
  p = good;
  p.scale = std::numeric_limits<float>::infinity();
  EXPECT_TRUE(refused(p, {"scale", "inf"}));
  p = good;
  p.product_dtype = DType::kI32;
  EXPECT_TRUE(refused(p, {"product_dtype", "f32 or bf16"}));
  p = good;
  p.k.shape[1] = 3;
  EXPECT_TRUE(refused(p, {"attention_forward"}));
  p = good;
  p.out.shape[0] = 9;
  EXPECT_TRUE(refused(p, {"out.shape[0] is 9, must be 10"}));
  const auto bad_pattern = [&](const AttentionPattern& bad) {
    p = good;
    p.pattern = &bad;
    return backend_->AttentionForward(p);
  };
  EXPECT_TRUE(Refused(bad_pattern({.segments = {{0, 11, 4}}}),
                      {"segments[0].length is 11"}));
  EXPECT_TRUE(Refused(bad_pattern({.segments = {{0, 6, 4}, {5, 2, 4}}}),
                      {"segments[1].begin is 5"}));
  EXPECT_TRUE(
      Refused(bad_pattern({.segments = {{0, 6, 0}}}), {"group_size is 0"}));
  EXPECT_TRUE(
      Refused(bad_pattern({.segments = {{0, 6, 4}}, .shifted_heads = 5}),
              {"shifted_heads is 5", "[0, 4]"}));
  EXPECT_TRUE(Refused(bad_pattern({.segments = {{0, 6, 4}}, .sink_tokens = -1}),
                      {"sink_tokens is -1"}));
  EXPECT_TRUE(
      Refused(bad_pattern({.segments = {{0, 6, 4, 3}}, .sink_tokens = 4}),
              {"segments[0].lead is 3", "0 or in [4, 6]"}));
  EXPECT_TRUE(Refused(bad_pattern({.segments = {{0, 6, 4, 7}}}),
                      {"segments[0].lead is 7"}));
  EXPECT_TRUE(Refused(bad_pattern({.segments = {{0, 6, 4}}, .window = -1}),
                      {"window is -1"}));
  EXPECT_TRUE(BitEqual(out.view(), untouched.view()));
}

TEST_P(AttentionBackendTest, BackwardRefusesBadParamsUntouched) {
  const AttentionInputs in = MakeInputs(10, 4, 2, 8, 92);
  const AttentionPattern pattern{.segments = {{0, 10, 4}}};
  AttentionResults r = RunBoth(*backend_, in, pattern);
  const HostTensor before = r.dq;
  AttentionBackwardParams good{.dout = in.dout.view(),
                               .q = in.q.view(),
                               .k = in.k.view(),
                               .v = in.v.view(),
                               .out = r.out.view(),
                               .lse = r.lse.view(),
                               .pattern = &pattern,
                               .scale = 1.0f,
                               .dq = r.dq.view(),
                               .dk = r.dk.view(),
                               .dv = r.dv.view()};
  AttentionBackwardParams p = good;
  p.lse = {};
  EXPECT_TRUE(Refused(backend_->AttentionBackward(p), {"lse"}));
  p = good;
  p.dk.shape[1] = 1;
  EXPECT_TRUE(Refused(backend_->AttentionBackward(p),
                      {"attention_backward", "dk.shape[1] is 1, must be 2"}));
  p = good;
  p.dq = r.out.view();
  EXPECT_TRUE(
      Refused(backend_->AttentionBackward(p), {"dq is overlapping out"}));
  p = good;
  p.pattern = nullptr;
  EXPECT_TRUE(Refused(backend_->AttentionBackward(p), {"pattern is null"}));
  EXPECT_TRUE(BitEqual(r.dq.view(), before.view()));
}

// Pattern, dtype of products.
class AttentionTestedTest
    : public ::testing::TestWithParam<std::tuple<std::string, DType>> {
 protected:
  const std::string pattern_ = std::get<0>(GetParam());
  const DType product_ = std::get<1>(GetParam());
  template <typename... Args>
  AttentionInputs MakeInputs(Args... args) {
    AttentionInputs in = kernels::MakeInputs(args...);
    in.product_dtype = product_;
    return in;
  }
};

INSTANTIATE_TEST_SUITE_P(
    All, AttentionTestedTest,
    ::testing::Combine(::testing::ValuesIn(PatternNames()),
                       ::testing::Values(DType::kF32, DType::kBF16)),
    [](const auto& info) {
      return std::get<0>(info.param) +
             (std::get<1>(info.param) == DType::kBF16 ? "_bf16" : "_f32");
    });

TEST_P(AttentionTestedTest, MatchesReferenceForwardAndBackward) {
  const auto tested = Open(kTested);
  const auto reference = Open("reference");
  for (int64_t head_dim : {8, 16, 24, 64, 136, 256}) {
    for (int64_t padding : {0, 5}) {
      const auto pattern =
          MakePattern(pattern_, 4, 40, {100, 3, 67}, 2).pattern;
      const AttentionInputs in =
          MakeInputs(176, 4, 2, head_dim, 61 + head_dim, padding);
      const AttentionResults got = RunBoth(*tested, in, pattern, padding);
      const AttentionResults want = RunBoth(*reference, in, pattern, padding);
      const auto forward =
          AttentionTolerance(head_dim, kLargestScore, product_);
      const auto backward =
          AttentionGradientTolerance(head_dim, 176, kLargestScore, product_);
      EXPECT_TRUE(TensorNear(got.out.view(), want.out.view(), forward));
      EXPECT_TRUE(TensorNear(got.lse.view(), want.lse.view(), forward));
      EXPECT_TRUE(TensorNear(got.dq.view(), want.dq.view(), backward));
      EXPECT_TRUE(TensorNear(got.dk.view(), want.dk.view(), backward));
      EXPECT_TRUE(TensorNear(got.dv.view(), want.dv.view(), backward));
    }
  }
}

// Threads pick among schedules of the backward pass; none may show in a bit.
TEST_P(AttentionTestedTest, ThreadsDoNotChangeBits) {
  for (int64_t kv_heads : {1, 3}) {
    const auto pattern = MakePattern(pattern_, 6, 48, {210, 64, 31}, 1).pattern;
    const AttentionInputs in = MakeInputs(308, 6, kv_heads, 32, 101);
    const AttentionResults one = RunBoth(*Open(kTested, 1), in, pattern);
    for (int threads : {2, 3, 7}) {
      const AttentionResults many =
          RunBoth(*Open(kTested, threads), in, pattern);
      EXPECT_TRUE(BitEqual(many.out.view(), one.out.view()));
      EXPECT_TRUE(BitEqual(many.lse.view(), one.lse.view()));
      EXPECT_TRUE(BitEqual(many.dq.view(), one.dq.view()));
      EXPECT_TRUE(BitEqual(many.dk.view(), one.dk.view()));
      EXPECT_TRUE(BitEqual(many.dv.view(), one.dv.view()));
    }
  }
}

}  // namespace
}  // namespace sinklora::kernels
