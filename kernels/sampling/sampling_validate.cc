// SPDX-License-Identifier: Apache-2.0
#include "kernels/sampling/sampling_validate.h"

#include <cmath>
#include <string>

#include "kernels/validator.h"

namespace sinklora::kernels {

Status Validate(const SampleTokensParams& p) {
  Validator check("sample_tokens");
  if (!p.rows.empty()) check.NotNull("ids", p.ids);
  for (size_t i = 0; i < p.rows.size() && check.ok(); ++i) {
    const SampleRow& row = p.rows[i];
    const std::string name = "rows[" + std::to_string(i) + "].";
    check.Tensor(name + "logits", row.logits, kF32, {kAny})
        .Value(
            row.logits.shape[0] >= 1 && row.logits.shape[0] <= kMaxSampledVocab,
            name + "logits.shape[0]", row.logits.shape[0],
            "in [1, " + std::to_string(kMaxSampledVocab) + "]")
        .Value(row.temperature >= 0 && std::isfinite(row.temperature),
               name + "temperature", row.temperature, ">= 0 and finite")
        .Value(row.top_k >= 0, name + "top_k", row.top_k, ">= 0")
        .Value(row.top_p > 0 && row.top_p <= 1, name + "top_p", row.top_p,
               "in (0, 1]")
        .Value(row.draw >= 0 && row.draw < 1, name + "draw", row.draw,
               "in [0, 1)");
  }
  return check.status();
}

}  // namespace sinklora::kernels
