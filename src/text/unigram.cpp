#include "spectrace/text/unigram.hpp"

#include <algorithm>
#include <limits>

#include "serde_number.hpp"
#include "spectrace/core/checked_cast.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/text/limits.hpp"
#include "spectrace/text/utf8.hpp"
#include "unsupported.hpp"

namespace spectrace::text {
namespace {

constexpr double unknown_penalty = 10.0;

std::vector<ByteTrie::Entry> trie_entries(const std::vector<UnigramPiece>& pieces) {
  std::vector<ByteTrie::Entry> entries;
  entries.reserve(pieces.size());
  for (std::size_t id = 0; id < pieces.size(); ++id)
    if (!pieces[id].token.empty()) entries.push_back({pieces[id].token, checked_cast<std::int64_t>(id)});
  return entries;
}

InputError no_unknown_token(std::string_view token) {
  return InputError(ErrorKind::prompt, "the text holds '" + shown(token) + "', for which the tokenizer has no token",
                    "and its file has no unk_id");
}

}  // namespace

Unigram::Unigram(std::vector<UnigramPiece> pieces, std::optional<std::size_t> unknown_id, bool byte_fallback)
    : trie_(trie_entries(pieces)), unknown_id_(unknown_id), byte_fallback_(byte_fallback) {
  SPECTRACE_ASSERT(!unknown_id || *unknown_id < pieces.size());
  double worst_score = std::numeric_limits<double>::infinity();
  scores_.reserve(pieces.size());
  vocabulary_.reserve(pieces.size());
  for (std::size_t id = 0; id < pieces.size(); ++id) {
    scores_.push_back(pieces[id].score);
    worst_score = std::min(worst_score, pieces[id].score);
    vocabulary_.insert_or_assign(std::move(pieces[id].token), checked_cast<std::int64_t>(id));
  }
  unknown_score_ = worst_score - unknown_penalty;
  byte_tokens_ = find_byte_tokens(vocabulary_);
}

std::optional<std::int64_t> Unigram::find_id(std::string_view token) const {
  const auto it = vocabulary_.find(token);
  return it == vocabulary_.end() ? std::nullopt : std::optional(it->second);
}

std::int64_t Unigram::vocabulary_size() const { return checked_cast<std::int64_t>(scores_.size()); }

std::string Unigram::kind() const { return byte_fallback_ ? "byte-fallback Unigram" : "Unigram"; }

std::vector<std::string_view> Unigram::best_segmentation_reversed(std::string_view piece) const {
  constexpr std::size_t unreached = std::numeric_limits<std::size_t>::max();
  struct Best {
    double score = 0;               // of the best path that ends here
    std::size_t begin = unreached;  // of its last token
    bool is_unknown = false;
  };
  std::vector<Best> best(piece.size() + 1);
  for (std::size_t begin = 0; begin < piece.size();) {
    const double score_here = best[begin].score;
    const auto offer = [&](std::size_t size, double score, bool is_unknown) {
      Best& target = best[begin + size];
      // The sum's order matters to the last bit, and a tie keeps the earlier start.
      const double sum = score + score_here;
      if (target.begin == unreached || sum > target.score) target = {sum, begin, is_unknown};
    };
    const std::size_t character_size = decode_at(piece, begin).size_bytes;
    bool has_character = false;
    trie_.for_each_prefix(piece, begin, [&](const ByteTrie::Match& match) {
      const auto id = static_cast<std::size_t>(match.value);
      offer(match.size_bytes, scores_[id], unknown_id_ == id);
      has_character = has_character || match.size_bytes == character_size;
    });
    if (!has_character) {
      const Best& target = best[begin + character_size];
      if (!unknown_id_ && (target.begin == unreached || unknown_score_ + score_here > target.score))
        throw no_unknown_token(piece.substr(begin, character_size));
      offer(character_size, unknown_score_, true);
    }
    begin += character_size;
  }

  std::vector<std::string_view> tokens;
  bool previous_unknown = false;
  for (std::size_t end = piece.size(); end > 0;) {
    const Best& last = best[end];
    if (last.is_unknown && previous_unknown) {
      tokens.back() = piece.substr(last.begin, tokens.back().size() + end - last.begin);
    } else {
      tokens.push_back(piece.substr(last.begin, end - last.begin));
    }
    previous_unknown = last.is_unknown;
    end = last.begin;
  }
  return tokens;
}

void Unigram::append_token(std::string_view token, std::vector<std::int64_t>& ids) const {
  if (const auto id = find_id(token)) {
    ids.push_back(*id);
    return;
  }
  const auto byte_token = [&](char byte) { return byte_tokens_[static_cast<unsigned char>(byte)]; };
  if (byte_fallback_ &&
      std::all_of(token.begin(), token.end(), [&](char byte) { return byte_token(byte).has_value(); })) {
    for (const char byte : token) ids.push_back(*byte_token(byte));
    return;
  }
  if (!unknown_id_) throw no_unknown_token(token);
  ids.push_back(checked_cast<std::int64_t>(*unknown_id_));
}

void Unigram::encode(std::string_view piece, std::vector<std::int64_t>& ids) const {
  if (piece.empty() || cache_.find(piece, ids)) return;
  const std::size_t first = ids.size();
  const auto tokens = best_segmentation_reversed(piece);
  for (auto token = tokens.rbegin(); token != tokens.rend(); ++token) append_token(*token, ids);
  cache_.put(piece, ids, first);
}

std::unique_ptr<const TokenModel> read_unigram(const JsonNode& model) {
  model.expect_only_keys({"type", "unk_id", "vocab", "byte_fallback"});
  const JsonNode vocab = model.at("vocab");
  if (!vocab.is_array()) throw vocab.error("is not a list of [token, score]");
  std::vector<UnigramPiece> pieces;
  pieces.reserve(vocab.size());
  std::size_t num_bytes = 0;
  for (const Json& piece : vocab.json()) {  // the plain values: there may be a quarter of a million
    if (!piece.is_array() || piece.size() != 2 || !piece[0].is_string() || !piece[1].is_number())
      throw vocab.error("the entry " + shown(piece.dump()) + " is not [token, score]");
    const std::size_t size = piece[0].get_ref<const std::string&>().size();
    num_bytes += size;
    if (size > kMaxSearchedTokenBytes || num_bytes > kMaxSearchedBytes)
      throw vocab.error("the vocabulary is not supported",
                        size > kMaxSearchedTokenBytes
                            ? "a token is longer than " + std::to_string(kMaxSearchedTokenBytes) + " bytes"
                            : "its tokens are longer than " + std::to_string(kMaxSearchedBytes) + " bytes together",
                        input_ids_suggestion);
    pieces.push_back({piece[0].get<std::string>(), as_serde_json_reads(piece[1].get<double>())});
  }
  expect_spread(vocab);
  std::optional<std::size_t> unknown_id;
  if (const auto id = model.find("unk_id")) {
    if (id->as_int() < 0 || id->as_int() >= checked_cast<std::int64_t>(pieces.size()))
      throw id->error("is no token's number", "the vocabulary has " + std::to_string(pieces.size()) + " tokens");
    unknown_id = static_cast<std::size_t>(id->as_int());
  }
  return std::make_unique<Unigram>(std::move(pieces), unknown_id, model.get_bool("byte_fallback", false));
}

}  // namespace spectrace::text
