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
