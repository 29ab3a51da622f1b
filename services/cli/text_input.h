// Text that a command works on: from a flag, a file, or stdin.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CLI_TEXT_INPUT_H_
#define SINKLORA_SERVICES_CLI_TEXT_INPUT_H_

#include <string>

#include "absl/status/statusor.h"
#include "services/cli/session.h"

namespace sinklora::cli {

struct TextFlags {
  std::string text;
  std::string file;  // "-" is stdin
};

// `text` when given, else the content of `file`, else stdin. `text_flag` and
// `file_flag` name the flags in the usage error for a terminal's stdin, where
// nothing would ever come. kInvalidArgument when it is not UTF-8.
absl::StatusOr<std::string> ReadText(Session* session, const TextFlags& flags,
                                     const std::string& text_flag,
                                     const std::string& file_flag);

// kInvalidArgument naming `what` and the offset of the first byte that is not
// UTF-8.
absl::Status CheckUtf8(const std::string& what, const std::string& text);

}  // namespace sinklora::cli

#endif  // SINKLORA_SERVICES_CLI_TEXT_INPUT_H_
