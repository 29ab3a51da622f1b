// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/cuda_emulation/engine.h"

#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "tests/testing/cuda_emulation/fiber.h"
#include "tests/testing/cuda_emulation/shared_memory.h"

uint3 threadIdx{}, blockIdx{};
dim3 blockDim{}, gridDim{};

namespace sinklora::emulation {
namespace {

struct Copy {
  void* shared;
  const void* global;
  int valid_bytes;
};

enum class State { kReady, kAtWarpOperation, kAtBarrier, kReturned, kFailed };

// One thread of the block.
struct Lane {
  Fiber fiber;
  State state = State::kReady;
  bool started = false;
  uint3 index{};
  const char* name = nullptr;  // of the warp operation it waits at
  WarpOperation operation = nullptr;
  void* operand = nullptr;
  std::vector<Copy> open_copies;
  std::deque<std::vector<Copy>> copy_groups;
};

std::string Text(const uint3& i) {
  std::string text = "(";
  text.append(std::to_string(i.x)).append(", ").append(std::to_string(i.y));
  return text.append(", ").append(std::to_string(i.z)).append(")");
}

class Engine {
 public:
  std::string Run(dim3 grid, dim3 block, int64_t dynamic_shared_bytes,
                  const std::function<void()>& kernel);
  Lane& current() { return *current_; }
  SharedMemory& shared() { return shared_; }
  void SetError(const char* operation, const char* what) {
    error_ = operation;
    error_.append(": ").append(what);
  }

 private:
  static void Body(void* engine);
  bool RunBlock(bool descending);
  bool RunWarp(size_t warp, bool descending);
  void Step(Lane& lane);
  bool Finish(size_t warp);
  void DescribeStuck();

  SharedMemory shared_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  size_t threads_ = 0;
  Lane* current_ = nullptr;
  const std::function<void()>* kernel_ = nullptr;
  std::string error_;
};

Engine& TheEngine() {
  static Engine engine;
  return engine;
}

void Engine::Body(void* engine) {
  auto* self = static_cast<Engine*>(engine);
  Lane& lane = self->current();
  (*self->kernel_)();
  lane.state = State::kReturned;
  lane.fiber.Yield();
}

void Engine::Step(Lane& lane) {
  current_ = &lane;
  threadIdx = lane.index;
  if (lane.started) {
    lane.fiber.Resume();
  } else {
    lane.started = true;
    lane.fiber.Start(Body, this);
  }
}

// After no lane of the warp can go on: performs the operation they all wait
// at. False when they wait at none, or not all of them.
bool Engine::Finish(size_t warp) {
  void* operands[kLanes];
  const Lane& first = *lanes_[warp * kLanes];
  for (int i = 0; i < kLanes; ++i) {
    Lane& lane = *lanes_[warp * kLanes + i];
    if (lane.state != State::kAtWarpOperation ||
        lane.operation != first.operation) {
      return false;
    }
    operands[i] = lane.operand;
  }
  first.operation(operands);
  for (int i = 0; i < kLanes; ++i) {
    lanes_[warp * kLanes + i]->state = State::kReady;
  }
  return true;
}

// Until all lanes wait for other warps or have returned. False on failure.
bool Engine::RunWarp(size_t warp, bool descending) {
  do {
    for (int i = 0; i < kLanes; ++i) {
      const int lane = descending ? kLanes - 1 - i : i;
      Lane& next = *lanes_[warp * kLanes + lane];
      if (next.state == State::kReady) Step(next);
      if (next.state == State::kFailed) {
        error_ = "thread " + Text(next.index) + ": " + error_;
        return false;
      }
    }
  } while (Finish(warp));
  return true;
}

void Engine::DescribeStuck() {
  const auto waits = [](const Lane& lane) -> std::string {
    if (lane.state == State::kAtBarrier) return "waits at SyncThreads";
    if (lane.state == State::kReturned) return "has returned";
    return std::string("waits at ") + lane.name;
  };
  const std::string first = waits(*lanes_[0]);
  for (size_t i = 1; i < threads_; ++i) {
    const Lane& lane = *lanes_[i];
    if (waits(lane) == first && lane.operation == lanes_[0]->operation) {
      continue;
    }
    error_ = "threads diverge: " + Text(lanes_[0]->index) + " " + first + ", " +
             Text(lane.index) + " " + waits(lane);
    return;
  }
}

bool Engine::RunBlock(bool descending) {
  const size_t warps = threads_ / kLanes;
  for (;;) {
    for (size_t i = 0; i < warps; ++i) {
      if (!RunWarp(descending ? warps - 1 - i : i, descending)) return false;
    }
    const State state = lanes_[0]->state;
    for (size_t i = 0; i < threads_; ++i) {
      if (lanes_[i]->state != state || state == State::kAtWarpOperation) {
        DescribeStuck();
        return false;
      }
    }
    if (state == State::kReturned) return true;
    for (size_t i = 0; i < threads_; ++i) lanes_[i]->state = State::kReady;
  }
}

std::string Engine::Run(dim3 grid, dim3 block, int64_t dynamic_shared_bytes,
                        const std::function<void()>& kernel) {
  threads_ = size_t{block.x} * block.y * block.z;
  while (lanes_.size() < threads_) lanes_.push_back(std::make_unique<Lane>());
  kernel_ = &kernel;
  blockDim = block;
  gridDim = grid;
  error_.clear();
  const uint64_t blocks = uint64_t{grid.x} * grid.y * grid.z;
  for (uint64_t b = 0; b < blocks; ++b) {
    blockIdx = {static_cast<unsigned>(b % grid.x),
                static_cast<unsigned>(b / grid.x % grid.y),
                static_cast<unsigned>(b / grid.x / grid.y)};
    for (size_t i = 0; i < threads_; ++i) {
      Lane& lane = *lanes_[i];
      lane.state = State::kReady;
      lane.started = false;
      lane.index = {static_cast<unsigned>(i % block.x),
                    static_cast<unsigned>(i / block.x % block.y),
                    static_cast<unsigned>(i / block.x / block.y)};
      lane.open_copies.clear();
      lane.copy_groups.clear();
    }
    shared_.Begin(dynamic_shared_bytes);
    bool done = RunBlock(b % 2 == 1);
    if (done && !shared_.GapsUntouched()) {
      error_ = "a write beside the shared variables";
      done = false;
    }
    if (!done) return "block " + Text(blockIdx) + ": " + error_;
  }
  return "";
}

}  // namespace

std::string RunGrid(dim3 grid, dim3 block, int64_t dynamic_shared_bytes,
                    const std::function<void()>& kernel) {
  static std::mutex one_at_a_time;
  const std::lock_guard<std::mutex> lock(one_at_a_time);
  return TheEngine().Run(grid, block, dynamic_shared_bytes, kernel);
}

void BlockBarrier() {
  Lane& lane = TheEngine().current();
  lane.state = State::kAtBarrier;
  lane.operation = nullptr;
  lane.fiber.Yield();
}

void WarpCollective(const char* name, WarpOperation operation, void* operand) {
  Lane& lane = TheEngine().current();
  lane.state = State::kAtWarpOperation;
  lane.name = name;
  lane.operation = operation;
  lane.operand = operand;
  lane.fiber.Yield();
}

void Fail(const char* operation, const char* what) {
  Lane& lane = TheEngine().current();
  TheEngine().SetError(operation, what);
  lane.state = State::kFailed;
  for (;;) lane.fiber.Yield();
}

void* StaticShared(const void* key, size_t bytes, size_t alignment) {
  void* at = TheEngine().shared().Static(key, bytes, alignment);
  if (at == nullptr) Fail("SINKLORA_SHARED", "static memory is exhausted");
  return at;
}

void* DynamicSharedMemory() { return TheEngine().shared().dynamic(); }

void CheckShared16(const void* address, const char* what) {
  if (reinterpret_cast<uintptr_t>(address) % 16 != 0) {
    Fail(what, "shared address is not aligned to 16 bytes");
  }
  if (!TheEngine().shared().Holds(address, 16)) {
    Fail(what, "address is not in the block's shared memory");
  }
}

void StartCopy(void* shared, const void* global, int valid_bytes) {
  CheckShared16(shared, "CpAsync16");
  if (reinterpret_cast<uintptr_t>(global) % 16 != 0) {
    Fail("CpAsync16", "global address is not aligned to 16 bytes");
  }
  if (valid_bytes < 0 || valid_bytes > 16) {
    Fail("CpAsync16", "valid_bytes is not in [0, 16]");
  }
  TheEngine().current().open_copies.push_back({shared, global, valid_bytes});
}

void CommitCopies() {
  Lane& lane = TheEngine().current();
  lane.copy_groups.push_back(std::move(lane.open_copies));
  lane.open_copies.clear();
}

void WaitForCopies(int groups_left) {
  Lane& lane = TheEngine().current();
  while (lane.copy_groups.size() > static_cast<size_t>(groups_left)) {
    for (const Copy& copy : lane.copy_groups.front()) {
      std::memset(copy.shared, 0, 16);
      std::memcpy(copy.shared, copy.global, copy.valid_bytes);
    }
    lane.copy_groups.pop_front();
  }
}

}  // namespace sinklora::emulation
