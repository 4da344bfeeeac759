#include "spectrace/text/tokenizer.hpp"

#include <fmt/format.h>

#include "pipeline.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/file.hpp"
#include "spectrace/text/utf8.hpp"

namespace spectrace {

Tokenizer::Tokenizer(std::unique_ptr<const Pipeline> pipeline) : pipeline_(std::move(pipeline)) {}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

namespace {

/// Files of tokenizers that are not read, and what they are.
struct OtherFile {
  const char *name, *what;
};
constexpr OtherFile kOtherFiles[] = {{"tokenizer.model", "a SentencePiece or tiktoken model"},
                                     {"spiece.model", "a SentencePiece model"},
                                     {"tiktoken.model", "a tiktoken vocabulary"},
                                     {"qwen.tiktoken", "a tiktoken vocabulary"},
                                     {"tekken.json", "Mistral's own format"},
                                     {"vocab.txt", "a WordPiece vocabulary"},
                                     {"vocab.json", "a vocabulary without its merges.txt"}};

InputError no_tokenizer(const std::filesystem::path& folder) {
  for (const auto& [name, what] : kOtherFiles)
    if (!is_absent(folder / name))
      return InputError(ErrorKind::model, folder.string() + ": has its tokenizer as " + name + ", which is not read",
                        std::string(what) + "; tokenizer.json is read, or vocab.json with merges.txt",
                        "Make a tokenizer.json of it: transformers' AutoTokenizer.from_pretrained(...) and then "
                        "save_pretrained(...). Prompts may be given as input_ids instead.");
  return InputError(ErrorKind::model, folder.string() + ": has no tokenizer that can be read",
                    "neither tokenizer.json nor vocab.json with merges.txt is there",
                    "Add the model's tokenizer.json, or give the prompts as input_ids.");
}

}  // namespace

Tokenizer Tokenizer::load(const std::filesystem::path& folder) {
  const auto files = text::TokenizerFiles::read(folder);
  if (files.has_tokenizer_json) return Tokenizer(Pipeline::read_tokenizer_json(files));
  // Where both are, AutoTokenizer of transformers 5 reads the former.
  if (files.has_vocab_and_merges && is_absent(folder / "tokenizer.model"))
    return Tokenizer(Pipeline::read_vocab_and_merges(files));
  throw no_tokenizer(folder);
}

std::vector<std::int64_t> Tokenizer::encode(std::string_view text) const {
  if (const auto invalid = text::find_invalid_utf8(text))
    throw InputError(
        ErrorKind::prompt,
        fmt::format("the text is not UTF-8: byte {} is 0x{:02X}", *invalid, static_cast<unsigned char>(text[*invalid])),
        "counted from 0", "Convert the prompt to UTF-8.");
  text::Workspace work(text.size());
  auto pieces = pipeline_->added_tokens->extract_and_normalize(text, pipeline_->normalizer.get(), work);
  if (pipeline_->pre_tokenizer) pipeline_->pre_tokenizer->apply(pieces, work);
  std::vector<std::int64_t> ids;
  for (const text::Piece& piece : pieces) {
    if (piece.id) {
      ids.push_back(*piece.id);
    } else {
      pipeline_->model->encode(piece.text, ids);
    }
  }
  return pipeline_->post_processor.apply(std::move(ids));
}

std::int64_t Tokenizer::num_ids() const { return pipeline_->num_ids; }

const TokenizerChoice& Tokenizer::choice() const { return pipeline_->choice; }

}  // namespace spectrace
