// Checks a recipe and fills in its defaults.
//
// Thread-safe (functions only). Errors are kInvalidArgument with reason
// INVALID_RECIPE and metadata field, value and limit.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CURATOR_RECIPE_H_
#define SINKLORA_SERVICES_CURATOR_RECIPE_H_

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/curator/types.h"

namespace sinklora::curator {

// Everything that can be said without looking at the sources.
absl::Status ValidateRecipe(const Recipe& recipe);

// The recipe with every default resolved. `sources` are those it names, in
// order: their formats decide the builder, and must agree with one that is
// given. The packed-text builder uses neither chat template nor system prompt:
// both are empty in its resolved form. REQUIRES: ValidateRecipe(recipe) is OK.
absl::StatusOr<Recipe> ResolveRecipe(const Recipe& recipe,
                                     const std::vector<SourceInfo>& sources);

}  // namespace sinklora::curator

#endif  // SINKLORA_SERVICES_CURATOR_RECIPE_H_
