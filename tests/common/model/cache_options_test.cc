// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>

#include "common/model/options.h"
#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::sinklora::testing::StatusIs;
using ::testing::HasSubstr;

CacheOptions H2o(int64_t budget) {
  CacheOptions o;
  o.policy = CachePolicyKind::kH2o;
  o.budget_tokens = budget;
  return o;
}

void ExpectSplit(const CacheOptions& options, int64_t budget, int64_t recent,
                 int64_t sinks, int64_t heavy) {
  ASSERT_OK_AND_ASSIGN(const ResolvedCache r,
                       Resolve(options, 1000, 4000, CacheStorage::kFloat32));
  EXPECT_EQ(r.budget_tokens, budget);
  EXPECT_EQ(r.recent_tokens, recent);
  EXPECT_EQ(r.sink_tokens, sinks);
  EXPECT_EQ(r.heavy_tokens, heavy);
  EXPECT_EQ(r.budget_tokens, r.recent_tokens + r.sink_tokens + r.heavy_tokens);
}

void ExpectRejected(const CacheOptions& options, const char* text) {
  EXPECT_THAT(Resolve(options, 1000, 4000, CacheStorage::kFloat32),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(text)));
}

TEST(ResolveCacheTest, FullIsTheContext) {
  ExpectSplit(CacheOptions(), 4000, 4000, 0, 0);
  CacheOptions o;
  o.budget_tokens = 5;
  ExpectRejected(o, "budget_tokens");
}

TEST(ResolveCacheTest, H2oDefaults) {
  ExpectSplit(H2o(100), 100, 50, 4, 46);
  ExpectSplit(H2o(7), 7, 3, 3, 1);
  ExpectSplit(H2o(2), 2, 1, 1, 0);
  ExpectSplit(H2o(1), 1, 0, 0, 1);
  CacheOptions o = H2o(10);
  o.recent_tokens = 9;
  ExpectSplit(o, 10, 9, 1, 0);
}

TEST(ResolveCacheTest, RatiosRoundAndNeverReachZero) {
  CacheOptions o = H2o(0);
  o.budget_tokens.reset();
  o.prompt_ratio = 0.2;
  ExpectSplit(o, 200, 100, 4, 96);
  o.prompt_ratio = 0.2006;
  ExpectSplit(o, 201, 100, 4, 97);
  o.prompt_ratio = 1e-9;
  ExpectSplit(o, 1, 0, 0, 1);
  o.prompt_ratio.reset();
  o.context_ratio = 0.5;
  ExpectSplit(o, 2000, 1000, 4, 996);
  o.context_ratio = 1.0001;
  ExpectRejected(o, "context_ratio is 1.0001");
  o.context_ratio = NAN;
  ExpectRejected(o, "context_ratio");
  o.context_ratio = 0;
  ExpectRejected(o, "context_ratio is 0");
}

TEST(ResolveCacheTest, H2oLimits) {
  ExpectRejected(H2o(0), "budget_tokens is 0");
  CacheOptions o = H2o(10);
  o.recent_tokens = 10;  // recent >= budget
  ExpectRejected(o, "recent_tokens is 10");
  o.recent_tokens = -1;
  ExpectRejected(o, "recent_tokens is -1");
  o.recent_tokens = 6;
  o.sink_tokens = 5;
  ExpectRejected(o, "sink_tokens is 5");
  o.sink_tokens = 4;
  ExpectSplit(o, 10, 6, 4, 0);
}

TEST(ResolveCacheTest, WindowAndStreaming) {
  CacheOptions o;
  o.policy = CachePolicyKind::kSlidingWindow;
  ExpectRejected(o, "exactly one");
  o.budget_tokens = 30;
  ExpectSplit(o, 30, 30, 0, 0);
  o.sink_tokens = 4;
  ExpectRejected(o, "sink_tokens");
  o.policy = CachePolicyKind::kStreamingLlm;
  ExpectSplit(o, 30, 26, 4, 0);
  o.sink_tokens.reset();
  ExpectSplit(o, 30, 26, 4, 0);
  o.budget_tokens = 1;
  ExpectSplit(o, 1, 1, 0, 0);
  o.sink_tokens = 1;
  ExpectRejected(o, "sink_tokens is 1");
  o.sink_tokens.reset();
  o.recent_tokens = 3;
  ExpectRejected(o, "recent_tokens");
  o.recent_tokens.reset();
  o.prompt_ratio = 0.5;
  ExpectRejected(o, "2 of budget_tokens");
}

TEST(CacheOptionsTest, StorageIsTheModelsUnlessAskedFor) {
  CacheOptions options;
  for (const CacheStorage own :
       {CacheStorage::kFloat32, CacheStorage::kBfloat16}) {
    ASSERT_OK_AND_ASSIGN(const ResolvedCache r, Resolve(options, 10, 40, own));
    EXPECT_EQ(r.storage, own);
  }
  options.policy = CachePolicyKind::kH2o;
  options.budget_tokens = 8;
  options.storage = CacheStorage::kInt8;
  ASSERT_OK_AND_ASSIGN(const ResolvedCache r,
                       Resolve(options, 10, 40, CacheStorage::kFloat32));
  EXPECT_EQ(r.storage, CacheStorage::kInt8);
}

}  // namespace
}  // namespace sinklora
