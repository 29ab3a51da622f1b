// SPDX-License-Identifier: Apache-2.0
#include "services/cli/train_names.h"

namespace sinklora::cli {

namespace v1 = trainer::v1;

const NameTable<v1::TuningMode>& TuningModes() {
  static const auto* const kTable = new NameTable<v1::TuningMode>{
      {"lora", v1::TUNING_MODE_LORA}, {"full", v1::TUNING_MODE_FULL}};
  return *kTable;
}

const NameTable<v1::AttentionPattern>& AttentionPatterns() {
  static const auto* const kTable = new NameTable<v1::AttentionPattern>{
      {"full", v1::ATTENTION_PATTERN_FULL},
      {"short", v1::ATTENTION_PATTERN_SHORT},
      {"s2", v1::ATTENTION_PATTERN_S2},
      {"s2-sinks", v1::ATTENTION_PATTERN_S2_SINKS},
      {"segment-reassemble", v1::ATTENTION_PATTERN_SEGMENT_REASSEMBLE},
      {"sf", v1::ATTENTION_PATTERN_SF}};
  return *kTable;
}

const NameTable<v1::LrSchedule>& LrSchedules() {
  static const auto* const kTable =
      new NameTable<v1::LrSchedule>{{"constant", v1::LR_SCHEDULE_CONSTANT},
                                    {"cosine", v1::LR_SCHEDULE_COSINE}};
  return *kTable;
}

const NameTable<v1::ComputeType>& ComputeTypes() {
  static const auto* const kTable =
      new NameTable<v1::ComputeType>{{"float32", v1::COMPUTE_TYPE_FLOAT32},
                                     {"bfloat16", v1::COMPUTE_TYPE_BFLOAT16}};
  return *kTable;
}

const NameTable<v1::JobState>& JobStates() {
  static const auto* const kTable =
      new NameTable<v1::JobState>{{"queued", v1::JOB_STATE_QUEUED},
                                  {"running", v1::JOB_STATE_RUNNING},
                                  {"succeeded", v1::JOB_STATE_SUCCEEDED},
                                  {"failed", v1::JOB_STATE_FAILED},
                                  {"cancelled", v1::JOB_STATE_CANCELLED}};
  return *kTable;
}

bool HasEnded(v1::JobState state) {
  return state == v1::JOB_STATE_SUCCEEDED || state == v1::JOB_STATE_FAILED ||
         state == v1::JOB_STATE_CANCELLED;
}

}  // namespace sinklora::cli
