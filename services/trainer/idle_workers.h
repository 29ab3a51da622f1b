// Workers that ask for jobs of several workers, and how the ranks of such a job
// are shared out. A worker is there while it asks again and again, so that a
// job starts with workers that answer.
//
// Plain values: thread-compatible.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_TRAINER_IDLE_WORKERS_H_
#define SINKLORA_SERVICES_TRAINER_IDLE_WORKERS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace sinklora::trainer {

// As it asks for a job.
struct AskingWorker {
  std::string id;
  int devices = 1;
  bool can_join = false;
};

class IdleWorkers {
 public:
  // One that has not asked for `window_micros` is gone.
  explicit IdleWorkers(int64_t window_micros) : window_micros_(window_micros) {}

  // REQUIRES: it can join.
  void Ask(const AskingWorker& worker, int64_t now_micros);
  // It has a job.
  void Forget(const std::string& id) { workers_.erase(id); }
  void Expire(int64_t now_micros);

  int count() const { return static_cast<int>(workers_.size()); }
  std::vector<std::string> ids() const;
  // `count` of them, by id: that of `id`, which asks right now, and the first
  // others. REQUIRES: 1 <= count <= count(), `id` is one of them.
  std::vector<AskingWorker> Pick(const std::string& id, int count) const;

 private:
  struct Entry {
    AskingWorker worker;
    int64_t asked_micros;
  };
  const int64_t window_micros_;
  std::map<std::string, Entry> workers_;
};

// Of workers with so many devices, how many of each take part, so that there
// are at most `most`: those with the most leave some idle first. REQUIRES: each
// has some, and `most` allows one each.
std::vector<int> ShareRanks(std::vector<int> devices, int64_t most);

}  // namespace sinklora::trainer

#endif  // SINKLORA_SERVICES_TRAINER_IDLE_WORKERS_H_
