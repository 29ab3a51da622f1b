// SPDX-License-Identifier: Apache-2.0
#include "services/curator/parallel.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "common/base/mutex.h"

namespace sinklora::curator {

absl::Status ParallelFor(int threads, int64_t count,
                         const std::function<absl::Status(int64_t)>& task) {
  std::atomic<int64_t> next{0};
  std::atomic<bool> failed{false};
  Mutex mutex;
  int64_t failed_index = count;
  absl::Status failure;
  const auto work = [&] {
    while (!failed.load(std::memory_order_relaxed)) {
      const int64_t index = next.fetch_add(1, std::memory_order_relaxed);
      if (index >= count) return;
      absl::Status status = task(index);
      if (status.ok()) continue;
      failed.store(true, std::memory_order_relaxed);
      MutexLock lock(&mutex);
      if (index < failed_index) {
        failed_index = index;
        failure = std::move(status);
      }
    }
  };
  const int64_t helpers = std::min<int64_t>(threads, count) - 1;
  std::vector<std::jthread> pool;
  for (int64_t i = 0; i < helpers; ++i) pool.emplace_back(work);
  work();
  pool.clear();  // joins
  return failure;
}

}  // namespace sinklora::curator
