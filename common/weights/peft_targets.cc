// Which modules a configuration names, exactly as PEFT decides it.
//
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "common/base/status.h"
#include "common/weights/peft_adapter.h"
#include "common/weights/peft_names.h"
#include "common/weights/python_regex.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

constexpr char kAllLinear[] = "all-linear";

bool Contains(const std::vector<std::string>& list, const std::string& value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

// Compiled once; errors name the key.
absl::StatusOr<PythonRegex> Compile(const std::string& pattern,
                                    const char* key) {
  auto regex = PythonRegex::Create(pattern);
  if (!regex.ok()) return Annotate(regex.status(), key);
  return regex;
}

// `module` is a name of the list or ends with ".name".
bool NamedIn(const std::vector<std::string>& names, const std::string& module) {
  return std::any_of(names.begin(), names.end(), [&](const auto& name) {
    return module == name || module.ends_with("." + name);
  });
}

// target_modules or exclude_modules.
class ModuleMatcher {
 public:
  static absl::StatusOr<ModuleMatcher> Create(const PeftModules& modules,
                                              const char* key) {
    ModuleMatcher out;
    out.names_ = modules.names;
    if (!modules.regex.empty()) {
      SL_ASSIGN_OR_RETURN(out.regex_, Compile(modules.regex, key));
    }
    return out;
  }
  absl::StatusOr<bool> Matches(const std::string& module) const {
    if (regex_) return regex_->FullMatch(module);
    return NamedIn(names_, module);
  }

 private:
  std::vector<std::string> names_;
  std::optional<PythonRegex> regex_;
};

// rank_pattern or alpha_pattern: the first that matches the end of the name.
template <typename T>
class PatternMatcher {
 public:
  static absl::StatusOr<PatternMatcher> Create(
      const std::vector<std::pair<std::string, T>>& patterns, const char* key) {
    PatternMatcher out;
    for (const auto& [pattern, value] : patterns) {
      SL_ASSIGN_OR_RETURN(PythonRegex regex,
                          Compile(fmt::format("(.*\\.)?({})$", pattern), key));
      out.patterns_.push_back({std::move(regex), value});
    }
    return out;
  }
  absl::StatusOr<T> Find(const std::string& module, T otherwise) const {
    for (const auto& [regex, value] : patterns_) {
      SL_ASSIGN_OR_RETURN(const bool matches, regex.Match(module));
      if (matches) return value;
    }
    return otherwise;
  }

 private:
  std::vector<std::pair<PythonRegex, T>> patterns_;
};

// The layer of a module's name for layers_to_transform.
class LayerFilter {
 public:
  static absl::StatusOr<LayerFilter> Create(const PeftConfig& config) {
    LayerFilter out;
    out.layers_ = config.layers_to_transform;
    std::vector<std::string> patterns;
    for (const std::string& pattern : config.layers_pattern) {
      patterns.push_back(
          fmt::format("(?:^|.*?\\.){}\\.(?P<idx>\\d+)\\.", pattern));
    }
    if (patterns.empty()) patterns = {".*?\\.[^.]*\\.(?P<idx>\\d+)\\."};
    for (const std::string& pattern : patterns) {
      SL_ASSIGN_OR_RETURN(PythonRegex regex,
                          Compile(pattern, "layers_pattern"));
      out.regexes_.push_back(std::move(regex));
    }
    return out;
  }
  absl::StatusOr<bool> Passes(const std::string& module) const {
    if (layers_.empty()) return true;
    for (const PythonRegex& regex : regexes_) {
      SL_ASSIGN_OR_RETURN(const auto index, regex.MatchGroup(module, "idx"));
      int64_t layer = 0;
      if (!index) continue;
      return absl::SimpleAtoi(*index, &layer) &&
             std::find(layers_.begin(), layers_.end(), layer) != layers_.end();
    }
    return false;
  }

 private:
  std::vector<int64_t> layers_;
  std::vector<PythonRegex> regexes_;
};

// check_target_module_exists of PEFT.
class TargetMatcher {
 public:
  static absl::StatusOr<TargetMatcher> Create(const PeftConfig& config) {
    TargetMatcher out;
    out.names_ = config.target_modules.names;
    SL_ASSIGN_OR_RETURN(
        out.excluded_,
        ModuleMatcher::Create(config.exclude_modules, "exclude_modules"));
    for (const std::string& saved : config.modules_to_save) {
      SL_ASSIGN_OR_RETURN(PythonRegex regex,
                          Compile(fmt::format("(^|.*\\.){}($|\\..*)", saved),
                                  "modules_to_save"));
      out.saved_.push_back(std::move(regex));
    }
    SL_ASSIGN_OR_RETURN(
        out.target_,
        ModuleMatcher::Create(config.target_modules, "target_modules"));
    SL_ASSIGN_OR_RETURN(out.layers_, LayerFilter::Create(config));
    return out;
  }
  absl::StatusOr<bool> Matches(const std::string& module) const {
    SL_ASSIGN_OR_RETURN(const bool excluded, excluded_.Matches(module));
    if (excluded) return false;
    for (const PythonRegex& regex : saved_) {
      SL_ASSIGN_OR_RETURN(const bool saved, regex.Match(module));
      if (saved) return false;
    }
    SL_ASSIGN_OR_RETURN(const bool found, target_.Matches(module));
    // A module that is named in full is taken whatever its layer.
    if (!found || Contains(names_, module)) return found;
    return layers_.Passes(module);
  }

 private:
  std::vector<std::string> names_;
  ModuleMatcher excluded_, target_;
  std::vector<PythonRegex> saved_;
  LayerFilter layers_;
};

// Every name that PEFT looks at: the modules with tensors, and the blocks
// around them.
std::set<std::string> AllModules(const LlamaConfig& base) {
  std::set<std::string> modules;
  for (const auto& [tensor, shape] : BaseShapes(base)) {
    std::string name = ModuleOfTensor(tensor);
    while (modules.insert(name).second) {
      const size_t dot = name.rfind('.');
      if (dot == std::string::npos) break;
      name.resize(dot);
    }
  }
  return modules;
}

bool IsTarget(const std::string& module) {
  return Contains(LoraTargetModules(), module.substr(module.rfind('.') + 1));
}

// "all-linear" is turned into names before anything is matched.
PeftConfig WithoutShorthand(const PeftConfig& config) {
  PeftConfig out = config;
  if (absl::AsciiStrToLower(config.target_modules.regex) == kAllLinear) {
    out.target_modules = {LoraTargetModules(), ""};
  }
  return out;
}

absl::Status NotForLora(const std::string& module) {
  return absl::InvalidArgumentError(fmt::format(
      "target_modules selects '{}'; LoRA is supported on q_proj, k_proj, "
      "v_proj, o_proj, gate_proj, up_proj and down_proj",
      module));
}

absl::Status ResolveLora(const PeftConfig& config,
                         const std::set<std::string>& modules,
                         PeftTargets* out) {
  SL_ASSIGN_OR_RETURN(const TargetMatcher matcher,
                      TargetMatcher::Create(WithoutShorthand(config)));
  SL_ASSIGN_OR_RETURN(
      const auto ranks,
      PatternMatcher<int64_t>::Create(config.rank_pattern, "rank_pattern"));
  for (const std::string& module : modules) {
    SL_ASSIGN_OR_RETURN(const bool matches, matcher.Matches(module));
    if (!matches) continue;
    if (!IsTarget(module)) return NotForLora(module);
    SL_ASSIGN_OR_RETURN(out->lora[module], ranks.Find(module, config.rank));
  }
  if (!out->lora.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "target_modules selects no module of the base");
}

absl::Status ResolveFull(const PeftConfig& config, const LlamaConfig& base,
                         const std::set<std::string>& modules,
                         PeftTargets* out) {
  const auto shapes = BaseShapes(base);
  for (const std::string& saved : config.modules_to_save) {
    bool found = false;
    for (const std::string& module : modules) {
      if (!module.ends_with(saved)) continue;
      found = true;
      for (const auto& [tensor, shape] : shapes) {
        if (tensor.starts_with(module + ".")) out->full.insert(tensor);
      }
    }
    if (found) continue;
    return absl::InvalidArgumentError(fmt::format(
        "modules_to_save has '{}', which is no module of the base", saved));
  }
  if (config.ensure_weight_tying && base.tie_word_embeddings &&
      out->full.contains("model.embed_tokens.weight")) {
    out->full.insert("lm_head.weight");
  }
  for (const std::string& tensor : out->full) {
    if (!out->lora.contains(ModuleOfTensor(tensor))) continue;
    return absl::InvalidArgumentError(
        fmt::format("modules_to_save and target_modules both select '{}'",
                    ModuleOfTensor(tensor)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PeftTargets> ResolveTargets(const PeftConfig& config,
                                           const LlamaConfig& base) {
  PeftTargets out;
  const std::set<std::string> modules = AllModules(base);
  SL_RETURN_IF_ERROR(ResolveLora(config, modules, &out));
  SL_RETURN_IF_ERROR(ResolveFull(config, base, modules, &out));
  return out;
}

absl::StatusOr<std::map<std::string, double>> LoraScales(
    const PeftAdapter& adapter) {
  SL_ASSIGN_OR_RETURN(
      const auto alphas,
      PatternMatcher<double>::Create(adapter.alpha_pattern, "alpha_pattern"));
  std::map<std::string, double> scales;
  for (const auto& [module, a] : adapter.lora_a) {
    const auto rank = static_cast<double>(a.shape[0]);
    SL_ASSIGN_OR_RETURN(const double alpha,
                        alphas.Find(module, adapter.lora_alpha));
    scales[module] = alpha / (adapter.use_rslora ? std::sqrt(rank) : rank);
  }
  return scales;
}

}  // namespace sinklora
