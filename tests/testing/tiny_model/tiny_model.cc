// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/tiny_model/tiny_model.h"

#include "common/base/files.h"
#include "common/base/status.h"
#include "common/text/bpe_trainer.h"
#include "common/weights/random_model.h"

namespace sinklora::testing {
namespace {

constexpr std::string_view kText =
    R"(The lighthouse keeper counted the ships every evening, and every evening the
number was different. On clear days he could see forty of them, small and white
against the dark line where the sea ended. When fog came in from the north he
counted only the bells. "Twelve," he would write in the book, "perhaps thirteen,
one of them very far away." His daughter said that a bell was not a ship, but he
answered that a ship he could not see was still a ship, and that somebody had to
write it down.

In the third year of the long winter the harbour froze. Men walked out on the
ice with lanterns and ropes, and they cut holes and fished through them, and the
children built a village of snow between the two piers. There was a church with
a tower, and a street of seven houses, and a shop that sold nothing but pieces
of blue glass. The keeper wrote: "No ships. 31 lanterns. The village has grown
by a house." He underlined the last word, because it was the first time that he
had counted a house.

Spring came late that year. The ice broke in a single night with a sound like a
great door being closed, and in the morning the village of snow was gone, and
the piers were wet and black, and a ship lay at anchor that nobody had heard
arrive. Its sails were patched with many colours. Its captain was an old woman
who asked for water, for bread, and for the name of the place. They told her.
She laughed and said that she had been looking for it for eleven years, that it
was not on any of her maps, and that she had found it only because of a light
that someone had kept burning through all the months when no ship could come.

"Why did you keep it burning?" she asked the keeper. He thought for a while. He
did not know how to say it, so he showed her the book. She read it from the
first page to the last, standing in the small round room at the top of the tower
while the afternoon went by, and when she had finished she took the pen and
wrote below his last line, in letters that were large and not very straight:
"One ship. It was there all the time." Then she went down the 199 steps, and the
keeper lit the lamp, although it was not yet dark.

def count(ships):
    total = 0
    for ship in ships:
        if ship.bell or ship.sail:
            total += 1
    return total
)";

}  // namespace

LlamaConfig TinyModelConfig(const TinyModelOptions& options) {
  LlamaConfig config;
  config.num_layers = options.layers;
  config.hidden_size = options.hidden;
  config.intermediate_size = options.intermediate;
  config.num_heads = options.heads;
  config.num_kv_heads = options.kv_heads;
  config.head_dim = options.head_dim;
  config.vocab_size = options.vocab_size;
  config.max_position_embeddings = options.max_position_embeddings;
  config.rope_theta = options.rope_theta;
  config.rope_factor = options.rope_factor;
  config.tie_word_embeddings = options.tied;
  config.bos_token_id = 0;
  config.eos_token_id = 1;
  return config;
}

std::string_view TinyModelText() { return kText; }

absl::Status WriteTinyModel(const std::string& dir,
                            const TinyModelOptions& options) {
  SL_RETURN_IF_ERROR(
      WriteRandomModel(dir, ToJson(TinyModelConfig(options)), options.seed));
  BpeTrainerOptions trainer;
  trainer.vocab_size = options.vocab_size;
  SL_ASSIGN_OR_RETURN(const std::string tokenizer,
                      TrainByteLevelBpe({std::string(kText)}, trainer));
  SL_RETURN_IF_ERROR(
      WriteFileAtomic(JoinPath(dir, "tokenizer.json"), tokenizer));
  return WriteFileAtomic(JoinPath(dir, "tokenizer_config.json"),
                         R"({"bos_token": "<|begin|>", "eos_token": "<|end|>"})"
                         "\n");
}

}  // namespace sinklora::testing
