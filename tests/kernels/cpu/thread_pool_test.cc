// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <vector>

namespace sinklora::kernels::cpu {
namespace {

TEST(ThreadPoolTest, RunsEveryTaskOnce) {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.num_threads(), threads);
    for (int64_t count : {0, 1, 2, 1000}) {
      std::vector<std::atomic<int>> runs(count);
      pool.Run(count, [&](int64_t i, int thread) {
        EXPECT_GE(thread, 0);
        EXPECT_LT(thread, threads);
        ++runs[i];
      });
      for (const auto& n : runs) EXPECT_EQ(n.load(), 1);
    }
  }
}

TEST(ThreadPoolTest, WritesOfTasksAreSeenByTheCallerRunAfterRun) {
  ThreadPool pool(3);
  std::vector<int> values(64, 0);
  for (int round = 1; round <= 200; ++round) {
    pool.Run(64, [&](int64_t i, int) { values[i] += 1; });
    for (int value : values) ASSERT_EQ(value, round);
  }
}

// Short runs without pause, and runs after the workers have gone to sleep.
TEST(ThreadPoolTest, RunsCloseTogetherAndFarApartAreComplete) {
  for (const int threads : {2, 3, 7}) {
    ThreadPool pool(threads);
    std::vector<int> values(5, 0);
    for (int round = 1; round <= 3000; ++round) {
      pool.Run(5, [&](int64_t i, int) { values[i] += 1; });
      for (const int value : values) ASSERT_EQ(value, round);
      // Long enough for some workers to fall asleep, without a clock.
      if (round % 300 == 0) {
        volatile int waste = 0;
        for (int i = 0; i < 1000000; ++i) waste = waste + 1;
      }
    }
  }
}

TEST(ThreadPoolTest, RethrowsAndStaysUsable) {
  for (int threads : {1, 3}) {
    ThreadPool pool(threads);
    const auto fail = [](int64_t i, int) {
      if (i == 7) throw std::runtime_error("seven");
    };
    EXPECT_THROW(pool.Run(100, fail), std::runtime_error);
    std::atomic<int> runs = 0;
    pool.Run(10, [&](int64_t, int) { ++runs; });
    EXPECT_EQ(runs.load(), 10);
  }
}

TEST(ThreadPoolTest, BlocksCoverTheRange) {
  ThreadPool pool(2);
  std::vector<std::atomic<int>> seen(103);
  ParallelBlocks(pool, 103, 10, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) ++seen[i];
  });
  for (const auto& n : seen) EXPECT_EQ(n.load(), 1);
}

}  // namespace
}  // namespace sinklora::kernels::cpu
