// SPDX-License-Identifier: Apache-2.0
#include "common/gguf/gguf_rope.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numbers>

#include "common/base/status.h"
#include "common/gguf/gguf_keys.h"
#include "common/weights/rope_frequencies.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

constexpr int64_t kMaxContext = (int64_t{1} << 31) - 1;
// Of factors computed in f32 against those computed in double.
constexpr double kFactorTolerance = 1e-4;

absl::Status Unsupported(const std::string& what, const std::string& found,
                         const std::string& allowed) {
  return absl::InvalidArgumentError(
      fmt::format("{}: rope_scaling: {}, {}", what, found, allowed));
}

// The factor of cos and sin that YaRN gives when config.json sets none, and
// that llama.cpp always gives.
double YarnAttention(double factor) {
  return factor <= 1 ? 1 : 0.1 * std::log(factor) + 1;
}

absl::Status AddYarn(const LlamaConfig& config, const std::string& architecture,
                     const std::string& what, GgufHeader* header) {
  const RopeScaling defaults;
  if (config.rope.beta_fast != defaults.beta_fast ||
      config.rope.beta_slow != defaults.beta_slow) {
    return Unsupported(
        what,
        fmt::format("beta_fast {} and beta_slow {} of yarn",
                    config.rope.beta_fast, config.rope.beta_slow),
        "llama.cpp has 32 and 1 for this architecture");
  }
  if (!config.rope.truncate) {
    return Unsupported(what, "truncate false of yarn",
                       "llama.cpp always truncates");
  }
  header->AddString(architecture + gguf_keys::kRopeScalingType, "yarn");
  header->AddFloat(architecture + gguf_keys::kRopeScalingFactor,
                   static_cast<float>(config.rope_factor));
  header->AddUint32(architecture + gguf_keys::kRopeScalingContext,
                    static_cast<uint32_t>(config.rope.original_context));
  const double attention =
      ComputeRopeFrequencies(config, config.rope_factor, 1).attention;
  const double usual = YarnAttention(config.rope_factor);
  if (std::fabs(attention - usual) > 1e-9 * usual) {
    header->AddFloat(architecture + gguf_keys::kRopeScalingAttention,
                     static_cast<float>(attention / usual));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<double>> GetDecimal(const GgufFile& file,
                                                 const std::string& key) {
  SL_ASSIGN_OR_RETURN(const auto value, file.GetNumber(key));
  if (!value) return value;
  return std::optional<double>(ShortestDecimal(*value));
}

absl::Status ParseYarn(const GgufFile& file, const std::string& architecture,
                       LlamaConfig* config) {
  config->rope.kind = RopeKind::kYarn;
  SL_ASSIGN_OR_RETURN(
      const auto original,
      file.GetInt(architecture + gguf_keys::kRopeScalingContext, kMaxContext));
  config->rope.original_context =
      original.value_or(config->max_position_embeddings);
  const std::string attention = architecture + gguf_keys::kRopeScalingAttention;
  SL_ASSIGN_OR_RETURN(const auto relative, GetDecimal(file, attention));
  SL_ASSIGN_OR_RETURN(
      const auto absolute,
      GetDecimal(file, architecture + gguf_keys::kYarnAttention));
  if (relative) {
    config->rope.attention_factor = ShortestDecimal(
        static_cast<float>(*relative * YarnAttention(config->rope_factor)));
  } else if (absolute) {
    config->rope.attention_factor = *absolute;
  }
  SL_ASSIGN_OR_RETURN(
      const auto fast,
      GetDecimal(file, architecture + gguf_keys::kYarnBetaFast));
  SL_ASSIGN_OR_RETURN(
      const auto slow,
      GetDecimal(file, architecture + gguf_keys::kYarnBetaSlow));
  config->rope.beta_fast = fast.value_or(config->rope.beta_fast);
  config->rope.beta_slow = slow.value_or(config->rope.beta_slow);
  return absl::OkStatus();
}

bool Matches(const LlamaConfig& config, std::span<const float> factors) {
  const std::vector<float> expected = RopeFreqs(config);
  return std::equal(expected.begin(), expected.end(), factors.begin(),
                    factors.end(), [](float a, float b) {
                      return std::fabs(a - b) <= kFactorTolerance * a;
                    });
}

// From two frequencies between the thresholds: of 1 / wavelength, the share s
// of the unscaled frequency is the line
//   s = (original / wavelength - low) / (high - low),  low = 1.
void FitThresholds(std::span<const float> factors, LlamaConfig* config) {
  struct Point {
    double x, s;
  };
  std::vector<Point> inside;
  const double factor = config->rope_factor;
  for (size_t i = 0; i < factors.size(); ++i) {
    const double s = (1 / factors[i] - 1 / factor) / (1 - 1 / factor);
    const double exponent =
        -2.0 * static_cast<double>(i) / static_cast<double>(config->head_dim);
    const double x =
        std::pow(config->rope_theta, exponent) / (2 * std::numbers::pi);
    if (s > 0 && s < 1) inside.push_back({x, s});
  }
  if (inside.size() < 2) return;
  const Point &a = inside.front(), &b = inside.back();
  const double slope = (a.s - b.s) / (a.x - b.x);
  const double intercept = slope * a.x - a.s;
  if (!(slope > 0) || !(intercept > 0)) return;
  // Both are round numbers wherever they come from.
  config->rope.high_freq_factor = std::round((1 + 1 / intercept) * 1000) / 1000;
  config->rope.original_context = std::clamp<int64_t>(
      std::llround(std::min(slope / intercept, 2e9)), 1, kMaxContext);
}

}  // namespace

double ShortestDecimal(double value) {
  const auto single = static_cast<float>(value);
  if (static_cast<double>(single) != value) return value;  // was no float
  return std::strtod(fmt::format("{}", single).c_str(), nullptr);
}

absl::Status AddRopeScaling(const LlamaConfig& config,
                            const std::string& architecture,
                            const std::string& what, GgufHeader* header) {
  switch (config.rope.kind) {
    case RopeKind::kDynamic:
      return Unsupported(what, "dynamic", "llama.cpp has linear, yarn, llama3");
    case RopeKind::kYarn:
      return AddYarn(config, architecture, what, header);
    case RopeKind::kLlama3:
      // A tensor, which llama.cpp reads for this architecture only.
      if (architecture == "llama") return absl::OkStatus();
      return Unsupported(what, "llama3 of " + config.model_type,
                         "llama.cpp has it for llama alone");
    case RopeKind::kLinear:
      break;
  }
  if (config.rope_factor == 1) return absl::OkStatus();
  header->AddString(architecture + gguf_keys::kRopeScalingType, "linear");
  header->AddFloat(architecture + gguf_keys::kRopeScalingFactor,
                   static_cast<float>(config.rope_factor));
  return absl::OkStatus();
}

std::vector<float> RopeFreqs(const LlamaConfig& config) {
  std::vector<float> factors;
  if (config.rope.kind != RopeKind::kLlama3) return factors;
  LlamaConfig unscaled = config;
  unscaled.rope = RopeScaling();
  const auto plain = ComputeRopeFrequencies(unscaled, 1, 1).inverse;
  const auto scaled =
      ComputeRopeFrequencies(config, config.rope_factor, 1).inverse;
  for (size_t i = 0; i < plain.size(); ++i) {
    factors.push_back(static_cast<float>(plain[i] / scaled[i]));
  }
  return factors;
}

absl::Status ParseRopeScaling(const GgufFile& file,
                              const std::string& architecture,
                              LlamaConfig* config) {
  const std::string type_key = architecture + gguf_keys::kRopeScalingType;
  const std::string factor_key = architecture + gguf_keys::kRopeScalingFactor;
  SL_ASSIGN_OR_RETURN(const auto type, file.GetString(type_key));
  SL_ASSIGN_OR_RETURN(const auto factor, GetDecimal(file, factor_key));
  const bool scaled = type.value_or("linear") != "none" && factor &&
                      *factor != 0;  // llama.cpp takes 0 for none
  if (scaled && !(*factor >= 1)) {
    return absl::InvalidArgumentError(
        fmt::format("{}: key '{}' is {}, must be at least 1", file.what(),
                    factor_key, *factor));
  }
  config->rope_factor = scaled ? *factor : 1;
  if (!type || *type == "linear" || *type == "none") return absl::OkStatus();
  if (*type == "yarn") return ParseYarn(file, architecture, config);
  return file.BadString(type_key, type, "'none', 'linear' or 'yarn'");
}

absl::Status FitLlama3Scaling(std::span<const float> factors,
                              const std::string& what, LlamaConfig* config) {
  const double largest = *std::max_element(factors.begin(), factors.end());
  const bool sane = std::all_of(
      factors.begin(), factors.end(),
      [](float factor) { return std::isfinite(factor) && factor >= 1; });
  config->rope = RopeScaling();
  config->rope_factor = ShortestDecimal(largest);
  if (sane && largest == 1) return absl::OkStatus();  // scales nothing
  if (sane) {
    config->rope.kind = RopeKind::kLlama3;
    // What all models have had so far, with an original context of 8192 for the
    // real ones; then anything.
    for (int64_t context = 8; context <= kMaxContext / 2; context *= 2) {
      config->rope.original_context = context;
      if (Matches(*config, factors)) return absl::OkStatus();
    }
    FitThresholds(factors, config);
    if (Matches(*config, factors)) return absl::OkStatus();
  }
  return absl::InvalidArgumentError(fmt::format(
      "{} is not the scaling of Llama 3.1, the only one that is supported",
      what));
}

}  // namespace sinklora
