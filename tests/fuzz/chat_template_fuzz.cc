// A model's Jinja text: recognised or refused, never run.
//
// SPDX-License-Identifier: Apache-2.0
#include "common/text/chat_template_detection.h"
#include "tests/fuzz/fuzz_check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto format = sinklora::DetectChatFormat(text, "chat_template.jinja");
  if (!format.ok()) {
    sinklora::fuzz::CheckRefusal(format.status(), "chat_template.jinja");
    return 0;
  }
  FUZZ_CHECK(!format->user_prefix.empty());
  FUZZ_CHECK(!sinklora::StopStrings(*format).empty());
  return 0;
}
