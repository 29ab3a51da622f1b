// Names that the command line uses for the enums of a training job, and the job
// as text.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CLI_TRAIN_NAMES_H_
#define SINKLORA_SERVICES_CLI_TRAIN_NAMES_H_

#include <string>
#include <utility>
#include <vector>

#include "sinklora/trainer/v1/training_service.pb.h"

namespace sinklora::cli {

template <typename Enum>
using NameTable = std::vector<std::pair<std::string, Enum>>;

const NameTable<trainer::v1::TuningMode>& TuningModes();
const NameTable<trainer::v1::AttentionPattern>& AttentionPatterns();
const NameTable<trainer::v1::LrSchedule>& LrSchedules();
const NameTable<trainer::v1::ComputeType>& ComputeTypes();
const NameTable<trainer::v1::JobState>& JobStates();

// The names of a table, in order.
template <typename Enum>
std::vector<std::string> NamesOf(const NameTable<Enum>& table) {
  std::vector<std::string> names;
  for (const auto& [name, value] : table) names.push_back(name);
  return names;
}

// The value of a name, or the zero value ("unspecified") for a name that is not
// there.
template <typename Enum>
Enum ValueOf(const NameTable<Enum>& table, const std::string& name) {
  for (const auto& [known, value] : table) {
    if (known == name) return value;
  }
  return static_cast<Enum>(0);
}

// The name of a value, or "-".
template <typename Enum>
std::string NameOf(const NameTable<Enum>& table, Enum wanted) {
  for (const auto& [name, value] : table) {
    if (value == wanted) return name;
  }
  return "-";
}

bool HasEnded(trainer::v1::JobState state);

}  // namespace sinklora::cli

#endif  // SINKLORA_SERVICES_CLI_TRAIN_NAMES_H_
