// Numbers as people read them. Pure functions.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CLI_FORMAT_H_
#define SINKLORA_SERVICES_CLI_FORMAT_H_

#include <google/protobuf/timestamp.pb.h>

#include <cstdint>
#include <string>

namespace sinklora::cli {

std::string FormatCount(int64_t n);            // 1,234,567
std::string FormatBytes(int64_t bytes);        // 1.4 MiB
std::string FormatSeconds(double seconds);     // 850 ms, 12.3 s, 4m07s, 2h05m
std::string FormatShare(double share);         // 12.5 %
std::string FormatDigest(const std::string&);  // first 12 digits
// Local calendar time, "2026-01-31 14:05:09"; "-" when it is not set.
std::string FormatTime(const google::protobuf::Timestamp& time);

}  // namespace sinklora::cli

#endif  // SINKLORA_SERVICES_CLI_FORMAT_H_
