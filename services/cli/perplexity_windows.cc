// SPDX-License-Identifier: Apache-2.0
#include "services/cli/perplexity_windows.h"

#include <algorithm>

namespace sinklora::cli {

std::vector<ScoreWindow> StridedWindows(int64_t tokens, int64_t context,
                                        int64_t stride) {
  std::vector<ScoreWindow> windows;
  int64_t begin = 0;
  int64_t next_target = 1;
  while (next_target < tokens) {
    const int64_t end = std::min(begin + context, tokens);
    windows.push_back({begin, end, next_target - begin});
    next_target = end;
    begin += stride;
  }
  return windows;
}

std::vector<ScoreWindow> LongLoraWindows(int64_t tokens, int64_t context,
                                         int64_t stride) {
  std::vector<ScoreWindow> windows;
  for (int64_t begin = 0; begin < tokens - context; begin += stride) {
    windows.push_back({begin, begin + context, 1});
  }
  if (!windows.empty()) windows.pop_back();
  return windows;
}

}  // namespace sinklora::cli
