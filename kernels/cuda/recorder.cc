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
  Entry& entry = own.front();
  const bool recorded = entry.graph != nullptr;
  if (!recorded) {
    if (Status status = Record(run, &entry.graph); !status.ok()) return status;
  }
  ++(recorded ? counts_.repeated : counts_.recorded);
  Status status = runtime_->Replay(entry.graph);
  entries_.splice(entries_.begin(), own);
  return status;
}

Status Recorder::Record(const std::function<Status()>& run, Graph* graph) {
  if (Status status = runtime_->BeginRecording(); !status.ok()) return status;
  Status status;
  try {
    status = run();
  } catch (...) {
    static_cast<void>(runtime_->EndRecording(nullptr));
    throw;
  }
  Status ended = runtime_->EndRecording(status.ok() ? graph : nullptr);
  return status.ok() ? ended : status;
}

void Recorder::Remember(Entry entry) {
  if (max_graphs_ == 0) return;
  while (static_cast<int>(entries_.size()) >= max_graphs_) {
    if (entries_.back().graph != nullptr) {
      runtime_->Drop(entries_.back().graph);
    }
    entries_.pop_back();
  }
  entries_.push_front(std::move(entry));
}

// Their keys stay: what is done once was done.
void Recorder::DropGraphs() {
  for (Entry& entry : entries_) {
    if (entry.graph != nullptr) runtime_->Drop(entry.graph);
    entry.graph = nullptr;
  }
}

}  // namespace sinklora::kernels::cuda
