// Threads that run the tasks of one op at a time.
//
// Tasks are handed out from a counter, so a slow core takes fewer of them.
// Which thread runs a task is therefore not fixed; determinism comes from tasks
// that are cut by shape alone and write memory of their own.
//
// One caller at a time; not reentrant (a task must not call Run).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CPU_THREAD_POOL_H_
#define SINKLORA_KERNELS_CPU_THREAD_POOL_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace sinklora::kernels::cpu {

class ThreadPool {
 public:
  // Called as task(index, thread), thread in [0, num_threads()).
  using Task = std::function<void(int64_t, int)>;

  // `num_threads` >= 1 counts the caller of Run.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Runs tasks 0 .. count-1 and returns when all are done. The first exception
  // a task throws is rethrown here, after the tasks already started have ended.
  void Run(int64_t count, const Task& task);

 private:
  void WorkerLoop(int thread);
  void StopWorkers();
  void Drain(const Task& task, int64_t count, int thread);

  std::vector<std::thread> workers_;
  std::atomic<int64_t> next_{0};

  std::mutex mutex_;
  std::condition_variable work_ready_;
  std::condition_variable work_done_;
  // State below is protected by mutex_.
  const Task* task_ = nullptr;
  int64_t count_ = 0;
  uint64_t generation_ = 0;
  int busy_workers_ = 0;
  bool stopping_ = false;
  std::exception_ptr error_;
};

// Cuts [0, n) into blocks of `block` items and runs body(begin, end, thread) on
// each.
template <typename Body>
void ParallelBlocks(ThreadPool& pool, int64_t n, int64_t block, Body body) {
  const int64_t blocks = (n + block - 1) / block;
  pool.Run(blocks, [&](int64_t index, int thread) {
    const int64_t begin = index * block;
    body(begin, begin + block < n ? begin + block : n, thread);
  });
}

}  // namespace sinklora::kernels::cpu

#endif  // SINKLORA_KERNELS_CPU_THREAD_POOL_H_
