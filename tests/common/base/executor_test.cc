// SPDX-License-Identifier: Apache-2.0
#include "common/base/executor.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <latch>
#include <stdexcept>
#include <thread>

namespace sinklora {
namespace {

TEST(ExecutorTest, RunsTasksOnOtherThreads) {
  auto executor = Executor::Create({.max_threads = 2});
  std::promise<std::thread::id> ran;
  ASSERT_TRUE(
      executor->Submit([&] { ran.set_value(std::this_thread::get_id()); }));
  EXPECT_NE(ran.get_future().get(), std::this_thread::get_id());
}

TEST(ExecutorTest, StartsThreadsWhileAllAreBusy) {
  constexpr int kThreads = 8;
  auto executor = Executor::Create({.max_threads = kThreads});
  // Each task waits for all the others, so fewer threads than tasks would never
  // get past this.
  std::latch all_running(kThreads);
  for (int i = 0; i < kThreads; ++i) {
    ASSERT_TRUE(executor->Submit([&] { all_running.arrive_and_wait(); }));
  }
  executor->Shutdown();
  EXPECT_TRUE(all_running.try_wait());
}

TEST(ExecutorTest, RefusesWhenQueueIsFull) {
  auto executor = Executor::Create({.max_threads = 1, .max_queued = 1});
  std::latch running(1);
  std::latch release(1);
  std::atomic<int> ran = 0;
  ASSERT_TRUE(executor->Submit([&] {
    running.count_down();
    release.wait();
    ++ran;
  }));
  running.wait();
  EXPECT_TRUE(executor->Submit([&] { ++ran; }));
  EXPECT_FALSE(executor->Submit([&] { ++ran; }));
  release.count_down();
  executor->Shutdown();
  EXPECT_EQ(ran, 2);
}

TEST(ExecutorTest, WithoutQueueAnIdleThreadStillTakesWork) {
  auto executor = Executor::Create({.max_threads = 1, .max_queued = 0});
  for (int i = 0; i < 100; ++i) {
    std::promise<void> ran;
    // The thread may still be on its way back from the task before.
    while (!executor->Submit([&] { ran.set_value(); })) {
      std::this_thread::yield();
    }
    ran.get_future().wait();
  }
}

TEST(ExecutorTest, ShutdownRunsQueuedTasksAndRefusesNewOnes) {
  auto executor = Executor::Create({.max_threads = 1});
  std::atomic<int> ran = 0;
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(executor->Submit([&] { ++ran; }));
  }
  executor->Shutdown();
  EXPECT_EQ(ran, 100);
  EXPECT_FALSE(executor->Submit([&] { ++ran; }));
  executor->Shutdown();
  EXPECT_EQ(ran, 100);
}

TEST(ExecutorTest, ZeroThreadsRunsInline) {
  auto executor = Executor::Create({.max_threads = 0});
  std::thread::id ran_on;
  ASSERT_TRUE(executor->Submit([&] { ran_on = std::this_thread::get_id(); }));
  EXPECT_EQ(ran_on, std::this_thread::get_id());
  executor->Shutdown();
  EXPECT_FALSE(executor->Submit([] {}));
}

TEST(ExecutorTest, SurvivesAThrowingTask) {
  auto executor = Executor::Create({.max_threads = 1});
  std::promise<void> ran;
  ASSERT_TRUE(
      executor->Submit([] { throw std::runtime_error("from a task"); }));
  ASSERT_TRUE(executor->Submit([&] { ran.set_value(); }));
  ran.get_future().wait();
}

TEST(ExecutorTest, ManySubmitters) {
  auto executor = Executor::Create({.max_threads = 4, .max_queued = 100'000});
  std::atomic<int> ran = 0;
  std::vector<std::thread> submitters;
  for (int t = 0; t < 4; ++t) {
    submitters.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) {
        EXPECT_TRUE(executor->Submit([&] { ++ran; }));
      }
    });
  }
  for (std::thread& submitter : submitters) submitter.join();
  executor->Shutdown();
  EXPECT_EQ(ran, 4000);
}

}  // namespace
}  // namespace sinklora
