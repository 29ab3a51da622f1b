// Which tokens are scored with which context: the two protocols of perplexity.
// Pure functions.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CLI_PERPLEXITY_WINDOWS_H_
#define SINKLORA_SERVICES_CLI_PERPLEXITY_WINDOWS_H_

#include <cstdint>
#include <vector>

namespace sinklora::cli {

// Tokens [begin, end) of a sequence go to the model; those from begin +
// score_from on are scored.
struct ScoreWindow {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t score_from = 1;

  int64_t targets() const { return end - begin - score_from; }
};

// `strided`: every token of a document but its first is scored exactly once. A
// window has `context` tokens and starts `stride` after the one before; it
// scores what no window before it scored. So a target sees all of its document
// up to the context's start, and at least context - stride tokens of it.
// REQUIRES: context >= 2, 1 <= stride < context.
std::vector<ScoreWindow> StridedWindows(int64_t tokens, int64_t context,
                                        int64_t stride);

// `windowed`, as LongLoRA's eval.py: whole windows of `context` tokens start
// every `stride` tokens of all text in a row, across documents; every one
// scores all its tokens but the first; the last window is dropped. REQUIRES:
// context >= 2, stride >= 1.
std::vector<ScoreWindow> LongLoraWindows(int64_t tokens, int64_t context,
                                         int64_t stride);

}  // namespace sinklora::cli

#endif  // SINKLORA_SERVICES_CLI_PERPLEXITY_WINDOWS_H_
