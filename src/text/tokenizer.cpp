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

Tokenizer Tokenizer::load(const std::filesystem::path& folder) {
  if (!is_absent(folder / "tokenizer.json")) return Tokenizer(Pipeline::read_tokenizer_json(folder / "tokenizer.json"));
  if (!is_absent(folder / "vocab.json") && !is_absent(folder / "merges.txt"))
    return Tokenizer(Pipeline::read_vocab_and_merges(folder));
  throw InputError(ErrorKind::model, folder.string() + ": has no tokenizer that can be read",
                   "neither tokenizer.json nor vocab.json with merges.txt is there",
                   "Add the model's tokenizer.json, or give the prompts as input_ids.");
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

const std::string& Tokenizer::description() const { return pipeline_->description; }

}  // namespace spectrace
