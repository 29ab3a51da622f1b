// SPDX-License-Identifier: Apache-2.0
#include "services/curator/packer.h"

#include <numeric>
#include <vector>

#include "common/base/random.h"
#include "services/curator/parallel.h"
#include "tests/testing/matchers.h"

namespace sinklora::curator {
namespace {

struct Packed {
  std::vector<TrainingExample> examples;
  std::vector<Packer::Dropped> dropped;
};

absl::StatusOr<Packed> Pack(
    int64_t context, const std::vector<std::vector<int32_t>>& documents) {
  Packed packed;
  Packer packer(context, [&](const TrainingExample& example) {
    packed.examples.push_back(example);
    return absl::OkStatus();
  });
  for (size_t i = 0; i < documents.size(); ++i) {
    SL_RETURN_IF_ERROR(packer.Add(static_cast<int64_t>(i), documents[i]));
  }
  SL_ASSIGN_OR_RETURN(packed.dropped, packer.Finish());
  return packed;
}

// Documents whose tokens are all different: token = running number.
std::vector<std::vector<int32_t>> Documents(const std::vector<int>& lengths) {
  std::vector<std::vector<int32_t>> documents;
  int32_t next = 0;
  for (const int length : lengths) {
    documents.emplace_back(static_cast<size_t>(length));
    std::iota(documents.back().begin(), documents.back().end(), next);
    next += length;
  }
  return documents;
}

// Everything that must hold of any packing.
void CheckProperties(int64_t context,
                     const std::vector<std::vector<int32_t>>& documents,
                     const Packed& packed) {
  std::vector<int32_t> expected, found;
  std::vector<bool> starts;  // of the documents, by token
  for (const auto& document : documents) {
    expected.insert(expected.end(), document.begin(), document.end());
    starts.resize(expected.size(), false);
    if (!document.empty()) starts[expected.size() - document.size()] = true;
  }
  for (size_t e = 0; e < packed.examples.size(); ++e) {
    const TrainingExample& example = packed.examples[e];
    const auto size = static_cast<int64_t>(example.token_ids.size());
    if (e + 1 < packed.examples.size()) {
      EXPECT_EQ(size, context);
    }
    EXPECT_GE(size, kMinExampleTokens);
    EXPECT_LE(size, context);
    ASSERT_EQ(example.supervised.size(), example.token_ids.size());
    EXPECT_EQ(std::accumulate(example.document_tokens.begin(),
                              example.document_tokens.end(), int64_t{0}),
              size);
    size_t at = 0;
    for (const int64_t length : example.document_tokens) {
      ASSERT_GE(length, 1);
      // A segment never holds the start of another document.
      for (size_t i = at; i < at + static_cast<size_t>(length); ++i) {
        const auto token = static_cast<size_t>(example.token_ids[i]);
        EXPECT_EQ(example.supervised[i], i == at ? 0 : 1);
        if (i > at) {
          EXPECT_FALSE(starts[token]);
        }
        // A segment starts with a document or with an example.
        if (i == at) {
          EXPECT_TRUE(starts[token] || at == 0);
        }
      }
      at += static_cast<size_t>(length);
    }
    found.insert(found.end(), example.token_ids.begin(),
                 example.token_ids.end());
  }
  int64_t dropped_tokens = 0;
  for (const auto& part : packed.dropped) {
    dropped_tokens += static_cast<int64_t>(part.token_ids.size());
    found.insert(found.end(), part.token_ids.begin(), part.token_ids.end());
  }
  EXPECT_LT(dropped_tokens, kMinExampleTokens);
  EXPECT_EQ(found, expected);  // all tokens once, in order
}

TEST(PackerTest, PropertiesHoldForRandomLengths) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const CounterRng rng(seed, 7);
    const auto context = static_cast<int64_t>(16 + rng.Below(0, 50));
    std::vector<int> lengths;
    const uint64_t count = rng.Below(1, 30);
    for (uint64_t i = 0; i < count; ++i) {
      lengths.push_back(static_cast<int>(1 + rng.Below(2 + i, 150)));
    }
    const auto documents = Documents(lengths);
    ASSERT_OK_AND_ASSIGN(const Packed packed, Pack(context, documents));
    CheckProperties(context, documents, packed);
  }
}

TEST(PackerTest, LongDocumentGoesOnAsItsOwnSegment) {
  ASSERT_OK_AND_ASSIGN(const Packed packed, Pack(20, Documents({15, 30})));
  ASSERT_EQ(packed.examples.size(), 2u);
  EXPECT_EQ(packed.examples[0].document_tokens, (std::vector<int64_t>{15, 5}));
  EXPECT_EQ(packed.examples[1].document_tokens, (std::vector<int64_t>{20}));
  EXPECT_EQ(packed.examples[1].supervised[0], 0);
  ASSERT_EQ(packed.dropped.size(), 1u);
  EXPECT_EQ(packed.dropped[0].document, 1);
  EXPECT_EQ(packed.dropped[0].token_ids,
            (std::vector<int32_t>{40, 41, 42, 43, 44}));
}

TEST(PackerTest, LastExampleIsKeptFromSixteenTokensOn) {
  ASSERT_OK_AND_ASSIGN(const Packed kept, Pack(32, Documents({48})));
  EXPECT_EQ(kept.examples.size(), 2u);
  EXPECT_TRUE(kept.dropped.empty());
  ASSERT_OK_AND_ASSIGN(const Packed dropped, Pack(32, Documents({47})));
  EXPECT_EQ(dropped.examples.size(), 1u);
  EXPECT_EQ(dropped.dropped.size(), 1u);
}

TEST(PackerTest, SinkErrorIsReturned) {
  Packer packer(16, [](const TrainingExample&) {
    return absl::ResourceExhaustedError("full");
  });
  const std::vector<int32_t> tokens(16, 5);
  EXPECT_THAT(packer.Add(0, tokens),
              testing::StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST(ParallelForTest, RunsEachTaskOnceAndReturnsAFailure) {
  std::vector<int> runs(1000, 0);
  EXPECT_OK(ParallelFor(4, 1000, [&](int64_t i) {
    ++runs[static_cast<size_t>(i)];
    return absl::OkStatus();
  }));
  EXPECT_EQ(runs, std::vector<int>(1000, 1));
  EXPECT_THAT(ParallelFor(4, 1000,
                          [](int64_t i) {
                            return i == 10 ? absl::DataLossError("ten")
                                           : absl::OkStatus();
                          }),
              testing::StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_OK(ParallelFor(
      3, 0, [](int64_t) { return absl::InternalError("no task to run"); }));
}

}  // namespace
}  // namespace sinklora::curator
