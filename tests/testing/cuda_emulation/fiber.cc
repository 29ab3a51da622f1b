// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/cuda_emulation/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
// ThreadSanitizer counts the functions that are entered and left, by fiber:
// those that switch must not be among them.
#define SINKLORA_SWITCHES __attribute__((noinline, no_sanitize_thread))
#else
#define SINKLORA_SWITCHES __attribute__((noinline))
#endif

namespace sinklora::emulation {
namespace {

constexpr size_t kPageBytes = 4096;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr size_t kStackBytes = 512 * 1024;
#else
constexpr size_t kStackBytes = 128 * 1024;
#endif

// A function of its own, as __builtin_longjmp must not be in the function that
// has the __builtin_setjmp it goes to.
[[noreturn]] SINKLORA_SWITCHES void Jump(void** to) {
  __builtin_longjmp(to, 1);
}

}  // namespace

Fiber::Fiber() {
  stack_ = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (stack_ == MAP_FAILED || mprotect(stack_, kPageBytes, PROT_NONE) != 0) {
    std::perror("stack of an emulated thread");
    std::abort();
  }
}

Fiber::~Fiber() {
#ifdef __SANITIZE_THREAD__
  if (watched_ != nullptr) __tsan_destroy_fiber(watched_);
#endif
  munmap(stack_, kStackBytes);
}

SINKLORA_SWITCHES void Fiber::BeginSwitch([[maybe_unused]] bool to_fiber,
                                          [[maybe_unused]] void** saved) {
#ifdef __SANITIZE_ADDRESS__
  if (to_fiber) {
    __sanitizer_start_switch_fiber(saved, stack_, kStackBytes);
  } else {
    __sanitizer_start_switch_fiber(saved, caller_stack_, caller_stack_bytes_);
  }
#endif
#ifdef __SANITIZE_THREAD__
  if (to_fiber) watched_caller_ = __tsan_get_current_fiber();
  // Not a synchronisation: both run on one thread, which orders them.
  __tsan_switch_to_fiber(to_fiber ? watched_ : watched_caller_, 0);
#endif
}

SINKLORA_SWITCHES void Fiber::EndSwitch([[maybe_unused]] void* saved,
                                        [[maybe_unused]] bool on_fiber) {
#ifdef __SANITIZE_ADDRESS__
  if (on_fiber) {
    __sanitizer_finish_switch_fiber(saved, &caller_stack_,
                                    &caller_stack_bytes_);
  } else {
    __sanitizer_finish_switch_fiber(saved, nullptr, nullptr);
  }
#endif
}

SINKLORA_SWITCHES void Fiber::Entry(unsigned high, unsigned low) {
  auto* fiber = reinterpret_cast<Fiber*>(static_cast<uintptr_t>(high) << 32 |
                                         uintptr_t{low});
  fiber->EndSwitch(nullptr, true);
  fiber->body_(fiber->argument_);
  std::abort();
}

void Fiber::Start(void (*body)(void*), void* argument) {
  body_ = body;
  argument_ = argument;
  fresh_ = true;
  Watch();
  Enter();
}

// What a body had entered when it was forgotten stays on the books: they are
// begun anew now and then.
void Fiber::Watch() {
#ifdef __SANITIZE_THREAD__
  constexpr int kStartsWatched = 1000;
  if (watched_ != nullptr && ++starts_ % kStartsWatched != 0) return;
  if (watched_ != nullptr) __tsan_destroy_fiber(watched_);
  watched_ = __tsan_create_fiber(0);
#endif
}

void Fiber::Resume() { Enter(); }

SINKLORA_SWITCHES void Fiber::Enter() {
  void* saved = nullptr;
  BeginSwitch(true, &saved);
  if (__builtin_setjmp(caller_) == 0) {
    if (!fresh_) Jump(here_);
    fresh_ = false;
#ifdef __SANITIZE_ADDRESS__
    __asan_unpoison_memory_region(static_cast<char*>(stack_) + kPageBytes,
                                  kStackBytes - kPageBytes);
#endif
    getcontext(&context_);
    context_.uc_stack.ss_sp = stack_;
    context_.uc_stack.ss_size = kStackBytes;
    context_.uc_link = nullptr;
    const auto self = reinterpret_cast<uintptr_t>(this);
    makecontext(&context_, reinterpret_cast<void (*)()>(Entry), 2,
                static_cast<unsigned>(self >> 32), static_cast<unsigned>(self));
    swapcontext(&starter_, &context_);
    std::abort();  // the way back is the jump
  }
  EndSwitch(saved, false);
}

SINKLORA_SWITCHES void Fiber::Yield() {
  void* saved = nullptr;
  BeginSwitch(false, &saved);
  if (__builtin_setjmp(here_) == 0) Jump(caller_);
  EndSwitch(saved, true);
}

}  // namespace sinklora::emulation
