// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/thread_pool.h"

#include <sched.h>

#include <utility>

#include "hwy/cache_control.h"

namespace sinklora::kernels::cpu {
namespace {

// Some 50 to 100 microseconds of looking.
constexpr int kSpins = 4000;

// Cores this process may run on.
int CoreCount() {
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof(cores), &cores) != 0) return 1;
  return CPU_COUNT(&cores);
}

}  // namespace

ThreadPool::ThreadPool(int num_threads)
    : spins_(num_threads <= CoreCount() ? kSpins : 0) {
  workers_.reserve(num_threads - 1);
  try {
    for (int thread = 1; thread < num_threads; ++thread) {
      workers_.emplace_back([this, thread] { WorkerLoop(thread); });
    }
  } catch (...) {
    StopWorkers();  // the destructor of a half-built pool does not run
    throw;
  }
}

ThreadPool::~ThreadPool() { StopWorkers(); }

void ThreadPool::StopWorkers() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  work_ready_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::Drain(const Task& task, int64_t count, int thread) {
  try {
    for (int64_t i = next_.fetch_add(1); i < count; i = next_.fetch_add(1)) {
      task(i, thread);
    }
  } catch (...) {
    next_.store(count);  // nobody starts another task
    std::lock_guard<std::mutex> lock(mutex_);
    if (!error_) error_ = std::current_exception();
  }
}

void ThreadPool::Run(int64_t count, const Task& task) {
  if (count <= 1 || workers_.empty()) {
    // Waking a worker costs more than most single tasks.
    for (int64_t i = 0; i < count; ++i) task(i, 0);
    return;
  }
  // Nobody is in a run now, so these are ours to write.
  task_ = &task;
  count_ = count;
  next_.store(0);
  state_.store((state_.load() / kOneRun + 1) * kOneRun + kOpen);
  if (sleeping_workers_.load() > 0) {
    { std::lock_guard<std::mutex> lock(mutex_); }
    work_ready_.notify_all();
  }
  Drain(task, count, 0);
  state_.fetch_and(~kOpen);
  AwaitWorkers();
  std::lock_guard<std::mutex> lock(mutex_);
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

void ThreadPool::AwaitWorkers() {
  const auto done = [this] { return (state_.load() & kActiveMask) == 0; };
  for (int i = 0; i < spins_; ++i) {
    if (done()) return;
    hwy::Pause();
  }
  std::unique_lock<std::mutex> lock(mutex_);
  caller_sleeps_ = true;
  work_done_.wait(lock, done);
  caller_sleeps_ = false;
}

bool ThreadPool::AwaitRun(uint64_t seen) {
  const auto due = [this, seen] {
    return stopping_.load() || state_.load() / kOneRun != seen;
  };
  for (int i = 0; i < spins_; ++i) {
    if (due()) return !stopping_.load();
    hwy::Pause();
  }
  std::unique_lock<std::mutex> lock(mutex_);
  ++sleeping_workers_;
  work_ready_.wait(lock, due);
  --sleeping_workers_;
  return !stopping_.load();
}

bool ThreadPool::Join(uint64_t run) {
  uint64_t state = state_.load();
  while (state / kOneRun == run && (state & kOpen) != 0) {
    if (state_.compare_exchange_weak(state, state + kOneActive)) return true;
  }
  return false;
}

void ThreadPool::Leave() {
  const uint64_t before = state_.fetch_sub(kOneActive);
  if ((before & kActiveMask) != kOneActive || !caller_sleeps_.load()) return;
  { std::lock_guard<std::mutex> lock(mutex_); }
  work_done_.notify_one();
}

void ThreadPool::WorkerLoop(int thread) {
  uint64_t seen = 0;
  while (AwaitRun(seen)) {
    seen = state_.load() / kOneRun;
    if (!Join(seen)) continue;
    Drain(*task_, count_, thread);
    Leave();
  }
}

}  // namespace sinklora::kernels::cpu
