// SPDX-License-Identifier: Apache-2.0
#include "services/trainer/idle_workers.h"

#include <algorithm>
#include <numeric>

namespace sinklora::trainer {

void IdleWorkers::Ask(const AskingWorker& worker, int64_t now_micros) {
  workers_[worker.id] = {worker, now_micros};
}

void IdleWorkers::Expire(int64_t now_micros) {
  std::erase_if(workers_, [&](const auto& item) {
    return now_micros - item.second.asked_micros > window_micros_;
  });
}

std::vector<std::string> IdleWorkers::ids() const {
  std::vector<std::string> out;
  for (const auto& [id, entry] : workers_) out.push_back(id);
  return out;
}

std::vector<AskingWorker> IdleWorkers::Pick(const std::string& id,
                                            int count) const {
  std::vector<AskingWorker> out;
  int others = count - 1;
  for (const auto& [other, entry] : workers_) {
    if (other != id && others-- <= 0) continue;
    out.push_back(entry.worker);
  }
  return out;
}

std::vector<int> ShareRanks(std::vector<int> devices, int64_t most) {
  int64_t total = std::accumulate(devices.begin(), devices.end(), int64_t{0});
  for (; total > most; --total) {
    --*std::max_element(devices.rbegin(), devices.rend());
  }
  return devices;
}

}  // namespace sinklora::trainer
