// Runs of ops that repeat, as graphs of the device: the first with a key is
// run, so that all that is done once (choices of algorithms, scratch memory) is
// done; the second is recorded and then run; those after it are replays.
//
// What the device refuses to record or to replay and survives is run instead,
// and what has that key is only run from there on. After kMaxRefusals nothing
// more is recorded: keys that were forgotten would be tried again.
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
  static constexpr int kMaxRefusals = 8;

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
  // throws, the key is as if it was never met. It is called again where the
  // record is refused. kInternal: the device is lost.
  Status Run(std::vector<uint64_t> key, uint64_t memory,
             const std::function<Status()>& run);
  // An op that is being recorded failed on the device by `status`.
  void Spoil(const Status& status) {
    if (spoilt_.ok()) spoilt_ = status;
  }

  int max_graphs() const { return max_graphs_; }
  const RepeatCounts& counts() const { return counts_; }
  // The first of them; OK when there was none.
  const Status& refusal() const { return refusal_; }

 private:
  struct Entry {
    std::vector<uint64_t> key;
    Graph graph = nullptr;  // after the second run
    bool refused = false;   // not recorded again
  };
  Status RunAgain(const std::function<Status()>& run, Entry* entry);
  // Returns what `run` does, which counts where `refusal` becomes OK.
  Status Record(const std::function<Status()>& run, Graph* graph,
                Status* refusal);
  // The way out: runs what could not be recorded or replayed, unless the device
  // is lost.
  Status RunInstead(const Status& refusal, const std::function<Status()>& run,
                    Entry* entry);
  void Remember(Entry entry);
  void DropGraphs();
  void DropGraph(Entry* entry);

  Runtime* const runtime_;
  const int max_graphs_;
  std::list<Entry> entries_;  // the last used first
  uint64_t memory_ = 0;
  RepeatCounts counts_;
  Status spoilt_;   // of what is being recorded
  Status refusal_;  // the first
};

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_CUDA_RECORDER_H_
