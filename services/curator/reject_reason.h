// Why a record is not in a dataset: a closed set, used as ledger entry, as key
// of the counts and as metric label.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CURATOR_REJECT_REASON_H_
#define SINKLORA_SERVICES_CURATOR_REJECT_REASON_H_

#include <array>

namespace sinklora::curator {

enum class RejectReason {
  kNone,  // kept
  kEmpty,
  kTooShort,
  kDuplicate,
  kNoSupervisedTokens,
};

inline constexpr std::array kRejectReasons = {
    RejectReason::kEmpty, RejectReason::kTooShort, RejectReason::kDuplicate,
    RejectReason::kNoSupervisedTokens};

constexpr const char* RejectReasonName(RejectReason reason) {
  switch (reason) {
    case RejectReason::kNone:
      return "";
    case RejectReason::kEmpty:
      return "EMPTY";
    case RejectReason::kTooShort:
      return "TOO_SHORT";
    case RejectReason::kDuplicate:
      return "DUPLICATE";
    case RejectReason::kNoSupervisedTokens:
      return "NO_SUPERVISED_TOKENS";
  }
  return "";
}

}  // namespace sinklora::curator

#endif  // SINKLORA_SERVICES_CURATOR_REJECT_REASON_H_
