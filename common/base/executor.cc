// SPDX-License-Identifier: Apache-2.0
#include "common/base/executor.h"

#include <pthread.h>

#include <deque>
#include <exception>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "common/base/log.h"
#include "common/base/mutex.h"

namespace sinklora {
namespace {

using Task = std::function<void()>;

// A task must not throw; one that does costs its own work, not the process.
void RunTask(const std::string& executor, const Task& task) {
  try {
    task();
  } catch (const std::exception& error) {
    LogError("{}: task ended with an exception: {}", executor, error.what());
  } catch (...) {
    LogError("{}: task ended with an exception of unknown type", executor);
  }
}

class InlineExecutor final : public Executor {
 public:
  explicit InlineExecutor(std::string name) : name_(std::move(name)) {}
  bool Submit(Task task) override {
    {
      MutexLock lock(&mutex_);
      if (stopped_) return false;
    }
    RunTask(name_, task);
    return true;
  }
  void Shutdown() override {
    MutexLock lock(&mutex_);
    stopped_ = true;
  }

 private:
  const std::string name_;
  Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
};

class ThreadExecutor final : public Executor {
 public:
  explicit ThreadExecutor(const Options& options) : options_(options) {}
  ~ThreadExecutor() override { Shutdown(); }
  bool Submit(Task task) override;
  void Shutdown() override;

 private:
  bool StartThread() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Work();

  const Options options_;
  Mutex mutex_;
  CondVar wake_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<Task> queue_ ABSL_GUARDED_BY(mutex_);
  // Threads that are free to take a task, those just started included.
  size_t idle_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<std::thread> threads_ ABSL_GUARDED_BY(mutex_);
};

bool ThreadExecutor::Submit(Task task) {
  MutexLock lock(&mutex_);
  if (stopped_) return false;
  const size_t max_threads = static_cast<size_t>(options_.max_threads);
  if (queue_.size() >= idle_ && threads_.size() < max_threads) {
    // Without a new thread the task waits for an old one; with none at all it
    // would wait for ever.
    if (!StartThread() && threads_.empty()) return false;
  }
  const size_t max_queued = static_cast<size_t>(options_.max_queued);
  if (queue_.size() >= idle_ + max_queued) return false;
  queue_.push_back(std::move(task));
  wake_.NotifyOne();
  return true;
}

bool ThreadExecutor::StartThread() {
  try {
    threads_.emplace_back([this] { Work(); });
  } catch (const std::system_error& error) {
    LogError("{}: cannot start thread {} of {}: {}", options_.name,
             threads_.size() + 1, options_.max_threads, error.what());
    return false;
  }
  // The kernel keeps 15 characters of a thread's name.
  pthread_setname_np(threads_.back().native_handle(),
                     options_.name.substr(0, 15).c_str());
  ++idle_;
  return true;
}

void ThreadExecutor::Work() {
  mutex_.Lock();
  while (true) {
    while (queue_.empty() && !stopped_) wake_.Wait(&mutex_);
    if (queue_.empty()) break;
    Task task = std::move(queue_.front());
    queue_.pop_front();
    --idle_;
    mutex_.Unlock();
    RunTask(options_.name, task);
    task = nullptr;  // what it captured is released before the thread is idle
    mutex_.Lock();
    ++idle_;
  }
  mutex_.Unlock();
}

void ThreadExecutor::Shutdown() {
  std::vector<std::thread> threads;
  {
    MutexLock lock(&mutex_);
    stopped_ = true;
    threads.swap(threads_);
    wake_.NotifyAll();
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

std::unique_ptr<Executor> Executor::Create(const Options& options) {
  if (options.max_threads <= 0) {
    return std::make_unique<InlineExecutor>(options.name);
  }
  return std::make_unique<ThreadExecutor>(options);
}

}  // namespace sinklora
