// Shows one generation as it streams in, or collects it for JSON. Borrows the
// session.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CLI_GENERATION_PRINTER_H_
#define SINKLORA_SERVICES_CLI_GENERATION_PRINTER_H_

#include <string>

#include "services/cli/session.h"

namespace sinklora::cli {

class GenerationPrinter {
 public:
  explicit GenerationPrinter(Session* session) : session_(session) {}

  // Prints text at once, unless the output is JSON.
  void OnEvent(const inference::v1::GenerateResponse& event);
  // Ends the text with a line break and prints the usage line on stderr, or
  // prints the JSON document: {text, token_ids, started: GenerateStarted,
  // finished: GenerateFinished}.
  void Finish();

  const std::string& text() const { return text_; }

 private:
  Session* const session_;
  std::string text_;
  Json token_ids_ = Json::array();
  inference::v1::GenerateStarted started_;
  inference::v1::GenerateFinished finished_;
};

// "12 prompt tokens, 30 new (length), ... resident" of a finished generation.
std::string UsageLine(const inference::v1::GenerateStarted& started,
                      const inference::v1::GenerateFinished& finished);

}  // namespace sinklora::cli

#endif  // SINKLORA_SERVICES_CLI_GENERATION_PRINTER_H_
