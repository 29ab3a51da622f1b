// A stack and the registers of a computation that can be left and resumed.
// Switches without a system call after the first; tells AddressSanitizer
// and ThreadSanitizer.
// Thread-compatible: a fiber is resumed by the thread that made it.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_TESTING_CUDA_EMULATION_FIBER_H_
#define SINKLORA_TESTS_TESTING_CUDA_EMULATION_FIBER_H_

#include <ucontext.h>

#include <cstddef>

namespace sinklora::emulation {

class Fiber {
 public:
  Fiber();  // aborts without memory: a test cannot go on
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Runs `body(argument)` on this fiber from its beginning until it calls
  // Yield. What ran on it before is forgotten, without destructors. `body` must
  // not return.
  void Start(void (*body)(void*), void* argument);
  // Goes on after the last Yield.
  void Resume();
  // Called on the fiber: back to the caller of Start or Resume.
  void Yield();

 private:
  static void Entry(unsigned high, unsigned low);
  void Enter();  // Start or Resume, from the caller's side
  void Watch();
  void BeginSwitch(bool to_fiber, void** saved);
  void EndSwitch(void* saved, bool on_fiber);

  void* stack_ = nullptr;
  ucontext_t context_{};
  ucontext_t starter_{};
  void* here_[5] = {};    // of the fiber
  void* caller_[5] = {};  // of who resumed it
  bool fresh_ = true;
  void (*body_)(void*) = nullptr;
  void* argument_ = nullptr;
  const void* caller_stack_ = nullptr;
  size_t caller_stack_bytes_ = 0;
  // ThreadSanitizer's, of the fiber and of who resumed it.
  void* watched_ = nullptr;
  void* watched_caller_ = nullptr;
  int starts_ = 0;
};

}  // namespace sinklora::emulation

#endif  // SINKLORA_TESTS_TESTING_CUDA_EMULATION_FIBER_H_
