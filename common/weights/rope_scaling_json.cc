// SPDX-License-Identifier: Apache-2.0
#include "common/weights/rope_scaling_json.h"

#include <cmath>
#include <optional>
#include <set>
#include <string>

#include "common/base/status.h"
#include "common/text/json.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr char kWhat[] = "config.json";
constexpr char kOlderKey[] = "rope_scaling";
constexpr char kNewerKey[] = "rope_parameters";
constexpr double kDefaultTheta = 10000.0;
constexpr int64_t kMaxContext = (int64_t{1} << 31) - 1;

// What one rope object says.
struct Found {
  RopeScaling scaling;
  double factor = 1;
  std::optional<double> theta;
  std::optional<int64_t> original;

  bool operator==(const Found& o) const {
    const RopeScaling &a = scaling, &b = o.scaling;
    return factor == o.factor && theta == o.theta && original == o.original &&
           a.kind == b.kind && a.attention_factor == b.attention_factor &&
           a.beta_fast == b.beta_fast && a.beta_slow == b.beta_slow &&
           a.mscale == b.mscale && a.mscale_all_dim == b.mscale_all_dim &&
           a.truncate == b.truncate && a.low_freq_factor == b.low_freq_factor &&
           a.high_freq_factor == b.high_freq_factor;
  }
};

absl::Status Bad(const std::string& field, const std::string& value,
                 const std::string& expected) {
  return absl::InvalidArgumentError(
      fmt::format("{}: {} is {}, {}", kWhat, field, value, expected));
}

// Reads numbers of one rope object with errors that name them.
class Reader {
 public:
  Reader(const json& object, const std::string& key)
      : object_(object), key_(key), what_(fmt::format("{}: {}", kWhat, key)) {}

  const std::string& what() const { return what_; }
  bool is_newer_form() const { return key_ == kNewerKey; }
  std::string Field(const char* key) const {
    return fmt::format("{}.{}", key_, key);
  }
  // A number for which `ok` holds; `fallback` when absent, an error without
  // one.
  template <typename Ok>
  absl::Status Number(const char* key, std::optional<double> fallback, Ok ok,
                      const std::string& expected, double* out) const {
    SL_ASSIGN_OR_RETURN(const auto value, GetNumber(object_, key, what_));
    if (!value && !fallback) return Bad(Field(key), "missing", expected);
    *out = value ? *value : *fallback;
    // Negated, so that NaN fails.
    if (value && !ok(*value)) {
      return Bad(Field(key), fmt::format("{}", *value), expected);
    }
    return absl::OkStatus();
  }

 private:
  const json& object_;
  const std::string key_;
  const std::string what_;
};

bool Positive(double x) { return x > 0 && x <= 1e9; }
constexpr char kPositive[] = "must be over 0 and at most 1e9";

absl::StatusOr<std::optional<RopeKind>> ParseKind(const json& rope,
                                                  const Reader& reader) {
  SL_ASSIGN_OR_RETURN(const auto newer,
                      GetString(rope, "rope_type", reader.what()));
  SL_ASSIGN_OR_RETURN(const auto older, GetString(rope, "type", reader.what()));
  if (newer && older && newer != older) {
    return Bad(reader.Field("type"), "'" + *older + "'",
               fmt::format("but rope_type is '{}': they must agree", *newer));
  }
  const auto type = newer ? newer : older;
  // rope_parameters without a type holds the base alone.
  if (type == "default" || (!type && reader.is_newer_form())) {
    return std::optional<RopeKind>();
  }
  for (const RopeKind kind : {RopeKind::kLinear, RopeKind::kDynamic,
                              RopeKind::kYarn, RopeKind::kLlama3}) {
    if (type == RopeKindName(kind)) return std::optional<RopeKind>(kind);
  }
  return Bad(reader.Field("rope_type"), type ? "'" + *type + "'" : "missing",
             "must be 'default', 'linear', 'dynamic', 'yarn' or 'llama3'");
}

// Keys that mean something to a kind. Others would be silently ignored.
absl::Status CheckKeys(const json& rope, const Reader& reader,
                       std::optional<RopeKind> kind) {
  std::set<std::string> known = {"type", "rope_type", "rope_theta",
                                 "partial_rotary_factor"};
  if (kind) {
    known.insert({"factor", "original_max_position_embeddings"});
  }
  if (kind == RopeKind::kYarn) {
    known.insert({"attention_factor", "beta_fast", "beta_slow", "mscale",
                  "mscale_all_dim", "truncate", "finetuned"});
  }
  if (kind == RopeKind::kLlama3) {
    known.insert({"low_freq_factor", "high_freq_factor"});
  }
  for (auto it = rope.begin(); it != rope.end(); ++it) {
    if (it->is_null() || known.contains(it.key())) continue;
    return Bad(reader.Field(it.key().c_str()), JsonExcerpt(*it),
               fmt::format("but {} RoPE has no such key",
                           kind ? RopeKindName(*kind) : "default"));
  }
  double rotary = 1;
  return reader.Number(
      "partial_rotary_factor", 1.0, [](double x) { return x == 1; },
      "only 1 is supported", &rotary);
}

absl::Status ParseYarn(const json& rope, const Reader& reader,
                       RopeScaling* out) {
  double attention = 0;
  SL_RETURN_IF_ERROR(
      reader.Number("attention_factor", 0.0, Positive, kPositive, &attention));
  if (attention != 0) out->attention_factor = attention;
  SL_RETURN_IF_ERROR(
      reader.Number("beta_fast", 32.0, Positive, kPositive, &out->beta_fast));
  SL_RETURN_IF_ERROR(
      reader.Number("beta_slow", 1.0, Positive, kPositive, &out->beta_slow));
  if (out->beta_fast < out->beta_slow) {
    return Bad(reader.Field("beta_fast"), fmt::format("{}", out->beta_fast),
               fmt::format("must be at least beta_slow {}", out->beta_slow));
  }
  const auto not_negative = [](double x) { return x == 0 || Positive(x); };
  for (const auto& [key, value] :
       {std::pair{"mscale", &out->mscale},
        std::pair{"mscale_all_dim", &out->mscale_all_dim}}) {
    SL_RETURN_IF_ERROR(
        reader.Number(key, 0.0, not_negative, "must be in [0, 1e9]", value));
  }
  SL_ASSIGN_OR_RETURN(const auto truncate,
                      GetBool(rope, "truncate", reader.what()));
  out->truncate = truncate.value_or(true);
  return GetBool(rope, "finetuned", reader.what()).status();
}

absl::Status ParseLlama3(const Reader& reader, RopeScaling* out) {
  SL_RETURN_IF_ERROR(reader.Number("low_freq_factor", std::nullopt, Positive,
                                   kPositive, &out->low_freq_factor));
  SL_RETURN_IF_ERROR(reader.Number("high_freq_factor", std::nullopt, Positive,
                                   kPositive, &out->high_freq_factor));
  if (out->high_freq_factor > out->low_freq_factor) return absl::OkStatus();
  return Bad(
      reader.Field("high_freq_factor"),
      fmt::format("{}", out->high_freq_factor),
      fmt::format("must be over low_freq_factor {}", out->low_freq_factor));
}

absl::StatusOr<Found> ParseObject(const json& rope, const char* key) {
  if (!rope.is_object()) {
    return Bad(key, JsonExcerpt(rope), "must be an object");
  }
  const Reader reader(rope, key);
  Found out;
  SL_ASSIGN_OR_RETURN(out.theta, GetNumber(rope, "rope_theta", reader.what()));
  SL_ASSIGN_OR_RETURN(const auto kind, ParseKind(rope, reader));
  SL_RETURN_IF_ERROR(CheckKeys(rope, reader, kind));
  if (!kind) return out;
  out.scaling.kind = *kind;
  SL_RETURN_IF_ERROR(reader.Number(
      "factor", std::nullopt,
      [](double x) { return x >= 1 && x <= kMaxRopeFactor; },
      fmt::format("must be in [1, {}]", kMaxRopeFactor), &out.factor));
  SL_ASSIGN_OR_RETURN(out.original,
                      GetInt(rope, "original_max_position_embeddings", 1,
                             kMaxContext, reader.what()));
  if (kind == RopeKind::kYarn) {
    SL_RETURN_IF_ERROR(ParseYarn(rope, reader, &out.scaling));
  }
  if (kind == RopeKind::kLlama3) {
    SL_RETURN_IF_ERROR(ParseLlama3(reader, &out.scaling));
  }
  return out;
}

// rope_scaling or rope_parameters; both only where they say the same.
absl::StatusOr<Found> FindRope(const json& object) {
  const json* older = FindField(object, kOlderKey);
  const json* newer = FindField(object, kNewerKey);
  if (older == nullptr && newer == nullptr) return Found();
  if (older == nullptr) return ParseObject(*newer, kNewerKey);
  SL_ASSIGN_OR_RETURN(Found found, ParseObject(*older, kOlderKey));
  if (newer == nullptr) return found;
  SL_ASSIGN_OR_RETURN(const Found other, ParseObject(*newer, kNewerKey));
  if (!found.theta) found.theta = other.theta;
  if (found == other) return found;
  return Bad(kOlderKey, JsonExcerpt(*older),
             fmt::format("but rope_parameters is {}: they must agree",
                         JsonExcerpt(*newer)));
}

// The original context of the scaling, wherever it stands.
absl::Status SetOriginal(const json& object, const Found& found,
                         LlamaConfig* config) {
  SL_ASSIGN_OR_RETURN(const auto outer,
                      GetInt(object, "original_max_position_embeddings", 1,
                             kMaxContext, kWhat));
  if (outer && found.original && outer != found.original) {
    return Bad("original_max_position_embeddings", fmt::format("{}", *outer),
               fmt::format("but that of the RoPE scaling is {}: they must "
                           "agree",
                           *found.original));
  }
  const int64_t context = config->max_position_embeddings;
  const int64_t original = outer.value_or(found.original.value_or(context));
  const RopeKind kind = config->rope.kind;
  if (kind == RopeKind::kYarn || kind == RopeKind::kLlama3) {
    config->rope.original_context = original;
  } else if (original != context) {
    // Peers differ in whether they read it for these kinds.
    return Bad("original_max_position_embeddings", fmt::format("{}", original),
               fmt::format("must be max_position_embeddings {} with {} RoPE",
                           context, RopeKindName(kind)));
  }
  return absl::OkStatus();
}

ordered_json* FindObject(ordered_json* object, const char* key) {
  const auto it = object->find(key);
  return it != object->end() && it->is_object() ? &*it : nullptr;
}

void SetLinearFactor(const LlamaConfig& config, double factor,
                     ordered_json* object) {
  if (ordered_json* parameters = FindObject(object, kNewerKey)) {
    // This form holds the base of the rotation as well, which stays.
    (*parameters)["rope_type"] = factor != 1 ? "linear" : "default";
    parameters->erase("type");
    parameters->erase("factor");
    parameters->erase("original_max_position_embeddings");
    if (factor != 1) (*parameters)["factor"] = factor;
    object->erase(kOlderKey);
    return;
  }
  // The replaced object may have held the base.
  if (!object->contains("rope_theta") && config.rope_theta != kDefaultTheta) {
    (*object)["rope_theta"] = config.rope_theta;
  }
  LlamaConfig scaled = config;
  scaled.rope_factor = factor;
  const ordered_json scaling = RopeScalingJson(scaled);
  if (scaling.is_null()) {
    object->erase(kOlderKey);
  } else {
    (*object)[kOlderKey] = scaling;
  }
}

void SetKindsFactor(const LlamaConfig& config, double factor,
                    ordered_json* object) {
  const bool yarn = config.rope.kind == RopeKind::kYarn;
  if (yarn) {
    (*object)["max_position_embeddings"] = std::llround(
        static_cast<double>(config.rope.original_context) * factor);
  }
  for (const char* key : {kOlderKey, kNewerKey}) {
    ordered_json* rope = FindObject(object, key);
    if (rope == nullptr) continue;
    (*rope)["factor"] = factor;
    if (!yarn) continue;
    (*rope)["original_max_position_embeddings"] = config.rope.original_context;
  }
}

}  // namespace

const char* RopeKindName(RopeKind kind) {
  switch (kind) {
    case RopeKind::kLinear:
      return "linear";
    case RopeKind::kDynamic:
      return "dynamic";
    case RopeKind::kYarn:
      return "yarn";
    case RopeKind::kLlama3:
      return "llama3";
  }
  return "unknown";
}

absl::Status ParseRope(const json& object, LlamaConfig* config) {
  SL_ASSIGN_OR_RETURN(const Found found, FindRope(object));
  SL_ASSIGN_OR_RETURN(const auto theta, GetNumber(object, "rope_theta", kWhat));
  if (theta && found.theta && theta != found.theta) {
    return Bad("rope_theta", fmt::format("{}", *theta),
               fmt::format("but that of the RoPE parameters is {}: they must "
                           "agree",
                           *found.theta));
  }
  config->rope_theta = theta.value_or(found.theta.value_or(kDefaultTheta));
  if (!(config->rope_theta > 1 && config->rope_theta <= 1e15)) {
    return Bad("rope_theta", fmt::format("{}", config->rope_theta),
               "must be over 1 and at most 1e15");
  }
  config->rope = found.scaling;
  config->rope_factor = found.factor;
  return SetOriginal(object, found, config);
}

ordered_json RopeScalingJson(const LlamaConfig& config) {
  const RopeScaling& rope = config.rope;
  if (rope.kind == RopeKind::kLinear && config.rope_factor == 1) return nullptr;
  const char* name = RopeKindName(rope.kind);
  ordered_json out = {
      {"rope_type", name}, {"type", name}, {"factor", config.rope_factor}};
  if (rope.kind == RopeKind::kYarn || rope.kind == RopeKind::kLlama3) {
    out["original_max_position_embeddings"] = rope.original_context;
  }
  if (rope.kind == RopeKind::kYarn) {
    if (rope.attention_factor) out["attention_factor"] = *rope.attention_factor;
    out["beta_fast"] = rope.beta_fast;
    out["beta_slow"] = rope.beta_slow;
    if (rope.mscale != 0) out["mscale"] = rope.mscale;
    if (rope.mscale_all_dim != 0) out["mscale_all_dim"] = rope.mscale_all_dim;
    out["truncate"] = rope.truncate;
  }
  if (rope.kind == RopeKind::kLlama3) {
    out["low_freq_factor"] = rope.low_freq_factor;
    out["high_freq_factor"] = rope.high_freq_factor;
  }
  return out;
}

void SetRopeFactor(const LlamaConfig& config, double factor,
                   ordered_json* object) {
  if (config.rope.kind == RopeKind::kLinear) {
    SetLinearFactor(config, factor, object);
  } else if (factor != config.rope_factor) {
    SetKindsFactor(config, factor, object);
  }
}

}  // namespace sinklora
