// Ops that are asked for again and again, the same in the same memory while
// what lies there changes: those of a decode step.
//
// A GPU records them the second time it meets their key and later repeats the
// record, which saves the host what asking for each costs and the device the
// gaps between them. Where the device refuses to record them or to repeat the
// record, they are run instead, and so are those that come later with that key;
// after some refusals nothing more is recorded. Other backends run them each
// time. The bits are the same.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_REPEAT_REPEAT_H_
#define SINKLORA_KERNELS_REPEAT_REPEAT_H_

#include <cstdint>
#include <functional>
#include <span>

#include "kernels/cache_decode/cache_decode.h"

namespace sinklora::kernels {

struct RepeatParams {
  // All that the params of the ops depend on, but for `decodes`. Who asks
  // twice with an equal key means the same ops, with the same params to the
  // last address.
  std::span<const uint64_t> key;
  // The CacheDecode ops among them, in their order. What their tokens are may
  // change from call to call under one key; they are read before `run`.
  std::span<const CacheDecodeParams> decodes;
  // Asks this backend for the ops, each of `decodes` by those very params.
  // False when one failed, whose error the caller then has. Ops that wait for
  // the device, copy from or to the host or allocate are refused while they
  // would be recorded; memory that is freed meanwhile is freed afterwards.
  // Called a second time where the first was recorded in vain, whatever it
  // returned: what counts is the last.
  std::function<bool()> run;
};

// How often the ops were run, recorded and run, repeated without asking, and
// run because the device refused one of the latter two.
struct RepeatCounts {
  int64_t run = 0;
  int64_t recorded = 0;
  int64_t repeated = 0;
  int64_t refused = 0;
};

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_REPEAT_REPEAT_H_
