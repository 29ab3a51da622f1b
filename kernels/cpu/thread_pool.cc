// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/thread_pool.h"

#include <utility>

namespace sinklora::kernels::cpu {

ThreadPool::ThreadPool(int num_threads) {
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
  {
    std::lock_guard<std::mutex> lock(mutex_);
    task_ = &task;
    count_ = count;
    next_.store(0);
    busy_workers_ = static_cast<int>(workers_.size());
    ++generation_;
  }
  work_ready_.notify_all();
  Drain(task, count, 0);
  std::unique_lock<std::mutex> lock(mutex_);
  work_done_.wait(lock, [this] { return busy_workers_ == 0; });
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

void ThreadPool::WorkerLoop(int thread) {
  uint64_t seen = 0;
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    work_ready_.wait(lock, [&] { return stopping_ || generation_ != seen; });
    if (stopping_) return;
    seen = generation_;
    const Task& task = *task_;
    const int64_t count = count_;
    lock.unlock();
    Drain(task, count, thread);
    lock.lock();
    if (--busy_workers_ == 0) work_done_.notify_one();
  }
}

}  // namespace sinklora::kernels::cpu
