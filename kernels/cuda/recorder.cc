// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/recorder.h"

#include <algorithm>
#include <utility>

namespace sinklora::kernels::cuda {

Status Recorder::Run(std::vector<uint64_t> key, uint64_t memory,
                     const std::function<Status()>& run) {
  if (memory != memory_) DropGraphs();
  memory_ = memory;
  const auto found =
      std::find_if(entries_.begin(), entries_.end(),
                   [&](const Entry& entry) { return entry.key == key; });
  if (found == entries_.end()) {
    ++counts_.run;
    Status status = run();
    if (status.ok()) Remember({.key = std::move(key)});
    return status;
  }
  // Out of the list until it is known to be good.
  std::list<Entry> own;
  own.splice(own.begin(), entries_, found);
  Status status = RunAgain(run, &own.front());
  if (status.ok()) {
    entries_.splice(entries_.begin(), own);
  } else {
    DropGraph(&own.front());
  }
  return status;
}

Status Recorder::RunAgain(const std::function<Status()>& run, Entry* entry) {
  const bool recorded = entry->graph != nullptr;
  if (!recorded) {
    if (entry->refused || counts_.refused >= kMaxRefusals) {
      ++counts_.run;
      return run();
    }
    Status refusal;
    Status status = Record(run, &entry->graph, &refusal);
    if (!refusal.ok()) return RunInstead(refusal, run, entry);
    if (!status.ok()) return status;
  }
  if (Status refusal = runtime_->Replay(entry->graph); !refusal.ok()) {
    return RunInstead(refusal, run, entry);
  }
  ++(recorded ? counts_.repeated : counts_.recorded);
  return OkStatus();
}

Status Recorder::Record(const std::function<Status()>& run, Graph* graph,
                        Status* refusal) {
  spoilt_ = OkStatus();
  *refusal = runtime_->BeginRecording();
  if (!refusal->ok()) return OkStatus();
  Status status;
  try {
    status = run();
  } catch (...) {
    static_cast<void>(runtime_->EndRecording(nullptr));
    throw;
  }
  *refusal = spoilt_;
  const bool good = status.ok() && spoilt_.ok();
  Status ended = runtime_->EndRecording(good ? graph : nullptr);
  if (good) *refusal = ended;
  return status;
}

Status Recorder::RunInstead(const Status& refusal,
                            const std::function<Status()>& run, Entry* entry) {
  DropGraph(entry);
  if (Status status = runtime_->Recover(); !status.ok()) return status;
  entry->refused = true;
  if (refusal_.ok()) refusal_ = refusal;
  ++counts_.refused;
  return run();
}

void Recorder::Remember(Entry entry) {
  if (max_graphs_ == 0) return;
  while (static_cast<int>(entries_.size()) >= max_graphs_) {
    DropGraph(&entries_.back());
    entries_.pop_back();
  }
  entries_.push_front(std::move(entry));
}

// Their keys stay: what is done once was done.
void Recorder::DropGraphs() {
  for (Entry& entry : entries_) DropGraph(&entry);
}

void Recorder::DropGraph(Entry* entry) {
  if (entry->graph != nullptr) runtime_->Drop(entry->graph);
  entry->graph = nullptr;
}

}  // namespace sinklora::kernels::cuda
