// For ThreadSanitizer: the order that gRPC gives to what happens around its
// calls. Debian's gRPC is not instrumented, so the tool does not see the
// threads that gRPC starts and joins, nor its locks, and would take what a
// program makes before it serves and calls then read for a race.
//
// No code at all in every other build. Thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_RPC_THREAD_ORDER_H_
#define SINKLORA_COMMON_RPC_THREAD_ORDER_H_

#ifdef SINKLORA_THREAD_SANITIZER
#include <sanitizer/tsan_interface.h>
#endif

namespace sinklora::rpc_internal {

#ifdef SINKLORA_THREAD_SANITIZER

inline char before_serving, after_calls;

// Everything before a server's start comes before each of its calls: the
// starting thread says the first, every call the second.
inline void NoteServerStarts() { __tsan_release(&before_serving); }
inline void NoteCallStarts() { __tsan_acquire(&before_serving); }

// Every call comes before the return of its server's Drain().
inline void NoteCallEnds() { __tsan_release(&after_calls); }
inline void NoteServerDrained() { __tsan_acquire(&after_calls); }

#else

inline void NoteServerStarts() {}
inline void NoteCallStarts() {}
inline void NoteCallEnds() {}
inline void NoteServerDrained() {}

#endif

}  // namespace sinklora::rpc_internal

#endif  // SINKLORA_COMMON_RPC_THREAD_ORDER_H_
