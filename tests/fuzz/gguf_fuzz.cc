// GGUF files: the container, and what an import makes of its metadata.
//
// SPDX-License-Identifier: Apache-2.0
#include <vector>

#include "common/gguf/gguf_file.h"
#include "common/gguf/gguf_model_metadata.h"
#include "common/gguf/gguf_quants.h"
#include "common/gguf/gguf_vocabulary.h"
#include "common/gguf/tokenizer_files.h"
#include "common/text/sentencepiece_file.h"
#include "common/text/tokenizer_json.h"
#include "tests/fuzz/fuzz_check.h"

namespace sinklora {
namespace {

constexpr char kWhat[] = "a/file";

// Every tensor lies in the file, none on another.
void CheckTensors(const GgufFile& file, std::string_view data) {
  const char* end = data.data();
  for (const GgufTensor& tensor : file.tensors()) {
    const auto bytes = GgufTensorBytes(tensor.type, tensor.shape);
    FUZZ_CHECK(bytes && *bytes == tensor.bytes.size());
    FUZZ_CHECK(tensor.bytes.data() >= end);
    end = tensor.bytes.data() + tensor.bytes.size();
    FUZZ_CHECK(end <= data.data() + data.size());
    if (tensor.type != GgmlType::kQ80) continue;
    std::vector<float> values(*bytes / 34 * 32);
    const absl::Status decoded = DecodeQ80(tensor.bytes, kWhat, values.data());
    if (!decoded.ok()) fuzz::CheckRefusal(decoded, kWhat);
  }
}

template <typename Result>
void CheckValue(const Result& result) {
  if (!result.ok()) fuzz::CheckRefusal(result.status(), kWhat);
}

void CheckValues(const GgufFile& file) {
  for (const std::string& key : file.keys()) {
    if (key.size() > 1000) continue;  // repeated in messages
    CheckValue(file.GetInt(key, INT64_MAX));
    CheckValue(file.GetNumber(key));
    CheckValue(file.GetBool(key));
    CheckValue(file.GetString(key));
    CheckValue(file.GetStrings(key));
    CheckValue(file.GetFloats(key));
    CheckValue(file.GetInt32s(key));
  }
}

// The files of a vocabulary that was accepted are what they say they are.
void CheckVocabulary(const VocabularyView& vocabulary) {
  const size_t size = vocabulary.pieces.size();
  FUZZ_CHECK(size > 0 && vocabulary.types.size() == size &&
             vocabulary.scores.size() == size);
  for (const auto& id : {vocabulary.bos_id, vocabulary.eos_id,
                         vocabulary.unknown_id, vocabulary.padding_id}) {
    FUZZ_CHECK(!id || (*id >= 0 && static_cast<size_t>(*id) < size));
  }
  GgufHeader header;
  const absl::Status added =
      AddVocabulary(vocabulary, static_cast<int64_t>(size), kWhat, &header);
  if (!added.ok()) fuzz::CheckRefusal(added, kWhat);
  if (vocabulary.kind == VocabularyKind::kByteLevelBpe) {
    CheckValue(ParseTokenizerJson(MakeTokenizerJson(vocabulary), kWhat));
    return;
  }
  const auto model =
      ParseSentencePieceFile(MakeSentencePieceModel(vocabulary), kWhat);
  if (!model.ok()) {
    fuzz::CheckRefusal(model.status(), kWhat);
    return;
  }
  FUZZ_CHECK(model->pieces.size() == size);
  for (size_t id = 0; id < size; ++id) {
    FUZZ_CHECK(model->pieces[id].text == vocabulary.pieces[id]);
    FUZZ_CHECK(model->pieces[id].score == vocabulary.scores[id]);
  }
}

void Run(std::string_view data) {
  const auto file = GgufFile::Parse(data, kWhat);
  if (!file.ok()) {
    fuzz::CheckRefusal(file.status(), kWhat);
    return;
  }
  CheckTensors(**file, data);
  CheckValues(**file);
  const auto config = ParseModelMetadata(**file);
  if (config.ok()) {
    FUZZ_CHECK(config->num_layers > 0 && config->vocab_size > 0);
    (void)ParseLlamaConfig(ToJson(*config));
  } else {
    fuzz::CheckRefusal(config.status(), kWhat);
  }
  const auto vocabulary = ParseVocabulary(**file);
  if (vocabulary.ok()) {
    CheckVocabulary(*vocabulary);
  } else {
    fuzz::CheckRefusal(vocabulary.status(), kWhat);
  }
}

}  // namespace
}  // namespace sinklora

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  sinklora::Run({reinterpret_cast<const char*>(data), size});
  return 0;
}
