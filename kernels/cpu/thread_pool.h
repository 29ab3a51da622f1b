// Threads that run the tasks of one op at a time.
//
// Tasks are handed out from a counter, so a slow core takes fewer of them.
// Which thread runs a task is therefore not fixed; determinism comes from tasks
// that are cut by shape alone and write memory of their own.
//
// Ops follow each other within microseconds while a token is decoded, and
// waking a sleeping thread takes some ten of them: a thread looks for the next
// op for a moment before it sleeps, where there is a core for each. A thread
// that comes too late for an op is not waited for.
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
#include <mutex>
#include <thread>
#include <vector>

namespace sinklora::kernels::cpu {

class ThreadPool {
 public:
  // Called as task(index, thread), thread in [0, num_threads()). A reference to
  // what it was made from, so that an op allocates nothing.
  class Task {
   public:
    template <typename Body>
    Task(const Body& body)  // NOLINT: implicit
        : body_(&body), call_([](const void* b, int64_t index, int thread) {
            (*static_cast<const Body*>(b))(index, thread);
          }) {}
    void operator()(int64_t index, int thread) const {
      call_(body_, index, thread);
    }

   private:
    const void* body_;
    void (*call_)(const void*, int64_t, int);
  };

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
  // state_: bit 0 says that workers may join the present run, the next 15 bits
  // count those that have and are not done, the rest counts runs.
  static constexpr uint64_t kOpen = 1;
  static constexpr uint64_t kOneActive = 2;
  static constexpr uint64_t kActiveMask = (uint64_t{1} << 16) - kOneActive;
  static constexpr uint64_t kOneRun = uint64_t{1} << 16;

  void WorkerLoop(int thread);
  void StopWorkers();
  void Drain(const Task& task, int64_t count, int thread);
  // Waits until state_ belongs to another run than `seen`; false when stopping.
  bool AwaitRun(uint64_t seen);
  // Whether the caller got into the present run, which is `run`.
  bool Join(uint64_t run);
  void Leave();
  void AwaitWorkers();

  std::vector<std::thread> workers_;
  int spins_ = 0;  // looks before a thread sleeps
  std::atomic<int64_t> next_{0};
  std::atomic<uint64_t> state_{0};
  // Of the present run; set before it opens, read by those who joined.
  const Task* task_ = nullptr;
  int64_t count_ = 0;

  std::mutex mutex_;
  std::condition_variable work_ready_;
  std::condition_variable work_done_;
  // Written under mutex_. A thread that changes what another may sleep for
  // reads them afterwards: either it sees the sleeper, or the sleeper saw the
  // change.
  std::atomic<int> sleeping_workers_{0};
  std::atomic<bool> caller_sleeps_{false};
  std::atomic<bool> stopping_{false};
  std::exception_ptr error_;  // protected by mutex_
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
