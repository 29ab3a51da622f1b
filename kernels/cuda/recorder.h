// Runs of ops that repeat, as graphs of the device: the first with a key is
// run, so that all that is done once (choices of algorithms, scratch memory) is
// done; the second is recorded and then run; those after it are replays.
//
// The graphs of the last kMaxGraphs keys are kept. Thread-compatible. Must not
// outlive its runtime.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CUDA_RECORDER_H_
#define SINKLORA_KERNELS_CUDA_RECORDER_H_

#include <cstdint>
#include <functional>
#include <list>
#include <vector>

#include "kernels/cuda/runtime.h"
#include "kernels/repeat/repeat.h"
#include "kernels/status.h"

namespace sinklora::kernels::cuda {

class Recorder {
 public:
  static constexpr int kMaxGraphs = 8;

  // `max_graphs` 0: nothing is recorded, every run is a first one.
  Recorder(Runtime* runtime, int max_graphs)
      : runtime_(runtime), max_graphs_(max_graphs) {}
  ~Recorder() { DropGraphs(); }
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  // Runs `run` now, or a record of it. `key` holds all that the launches of
  // `run` depend on but for the contents of device memory, and addresses in
  // memory of generation `memory`: with another one no graph is used any more.
  // `run` returns OK or why it failed, which is returned; then, and where it
  // throws, the key is as if it was never met.
  Status Run(std::vector<uint64_t> key, uint64_t memory,
             const std::function<Status()>& run);

  const RepeatCounts& counts() const { return counts_; }

 private:
  struct Entry {
    std::vector<uint64_t> key;
    Graph graph = nullptr;  // after the second run
  };
  Status Record(const std::function<Status()>& run, Graph* graph);
  void Remember(Entry entry);
  void DropGraphs();

  Runtime* const runtime_;
  const int max_graphs_;
  std::list<Entry> entries_;  // the last used first
  uint64_t memory_ = 0;
  RepeatCounts counts_;
};

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_CUDA_RECORDER_H_
