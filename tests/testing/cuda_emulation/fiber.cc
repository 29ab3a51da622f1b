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

namespace sinklora::emulation {
namespace {

constexpr size_t kPageBytes = 4096;
#ifdef __SANITIZE_ADDRESS__
constexpr size_t kStackBytes = 512 * 1024;
#else
constexpr size_t kStackBytes = 128 * 1024;
#endif

// A function of its own, as __builtin_longjmp must not be in the function that
// has the __builtin_setjmp it goes to.
[[noreturn]] __attribute__((noinline)) void Jump(void** to) {
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

Fiber::~Fiber() { munmap(stack_, kStackBytes); }

void Fiber::BeginSwitch([[maybe_unused]] bool to_fiber,
                        [[maybe_unused]] void** saved) {
#ifdef __SANITIZE_ADDRESS__
  if (to_fiber) {
    __sanitizer_start_switch_fiber(saved, stack_, kStackBytes);
  } else {
    __sanitizer_start_switch_fiber(saved, caller_stack_, caller_stack_bytes_);
  }
#endif
}

void Fiber::EndSwitch([[maybe_unused]] void* saved,
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

void Fiber::Entry(unsigned high, unsigned low) {
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
  Enter();
}

void Fiber::Resume() { Enter(); }

__attribute__((noinline)) void Fiber::Enter() {
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

__attribute__((noinline)) void Fiber::Yield() {
  void* saved = nullptr;
  BeginSwitch(false, &saved);
  if (__builtin_setjmp(here_) == 0) Jump(caller_);
  EndSwitch(saved, true);
}

}  // namespace sinklora::emulation
