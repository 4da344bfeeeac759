#include "spectrace/text/added_tokens.hpp"

#include <algorithm>

#include "spectrace/core/checked_cast.hpp"
#include "spectrace/text/limits.hpp"
#include "spectrace/text/unicode.hpp"
#include "spectrace/text/utf8.hpp"
#include "unsupported.hpp"

namespace spectrace::text {
namespace {

bool ends_with_word(std::string_view text) { return !text.empty() && is_word(decode_before(text, text.size()).value); }

bool starts_with_word(std::string_view text) { return !text.empty() && is_word(decode_at(text, 0).value); }

/// Not before `first`: what lies there is cut off already.
std::size_t begin_of_trailing_space(std::string_view text, std::size_t first) {
  std::size_t begin = text.size();
  while (begin > first) {
    const auto [c, size] = decode_before(text, begin);
    if (!is_white_space(c)) break;
    begin -= size;
  }
  return begin;
}

/// Ends of runs of white space, asked for at growing places. A run is walked once, not at each of its places: an added
/// token may be a space itself.
class SpaceEnds {
 public:
  explicit SpaceEnds(std::string_view text) : text_(text) {}
  std::size_t end_of_space_at(std::size_t place) {
    if (place < end_) return end_;
    for (end_ = place; end_ < text_.size();) {
      const auto [c, size] = decode_at(text_, end_);
      if (!is_white_space(c)) break;
      end_ += size;
    }
    return end_;
  }

 private:
  std::string_view text_;
  std::size_t end_ = 0;  // of the run walked last
};

/// Where in the normalized text a token is found: its own form there.
std::string normalized_form(const AddedToken& token, const Normalizer* normalizer, PatternEffort& effort) {
  if (!token.normalized || normalizer == nullptr) return token.content;
  NormalizedText form{token.content, 0, kMaxSearchedTokenBytes, effort};
  try {
    normalizer->apply(form);
  } catch (const InputError& error) {  // what is no prompt's fault here
    throw InputError(ErrorKind::model, "the added token '" + shown(token.content) + "' cannot be normalized",
                     error.problem(), input_ids_suggestion);
  }
  return std::move(form.text);
}

InputError not_supported(const AddedToken& token, const std::string& why) {
  return InputError(ErrorKind::model, "the added token '" + shown(token.content) + "' is not supported", why,
                    input_ids_suggestion);
}

}  // namespace

AddedToken AddedToken::special_text(std::string content) {
  AddedToken token;
  token.content = std::move(content);
  token.normalized = false;
  token.special = true;
  return token;
}

AddedToken read_added_token(const JsonNode& node) {
  AddedToken token;
  token.content = node.at("content").as_string();
  token.single_word = node.get_bool("single_word", false);
  token.strip_left = node.get_bool("lstrip", false);
  token.strip_right = node.get_bool("rstrip", false);
  token.special = node.get_bool("special", false);
  token.normalized = node.get_bool("normalized", !token.special);
  return token;
}

AddedTokens::AddedTokens(const std::vector<AddedToken>& tokens, const TokenModel& model, const Normalizer* normalizer) {
  for (const AddedToken& token : tokens) {
    if (token.content.empty()) continue;
    const auto [place, is_first] = places_.emplace(token.content, checked_cast<std::int64_t>(entries_.size()));
    if (!is_first) {
      entries_[static_cast<std::size_t>(place->second)].token = token;
      continue;
    }
    const auto model_id = model.find_id(token.content);
    if (!model_id) ++num_new_;
    entries_.push_back({token, model_id ? *model_id : std::max(largest_id_ + 1, model.vocabulary_size())});
    largest_id_ = std::max(largest_id_, entries_.back().id);
  }
  build_tries(normalizer);
}

void AddedTokens::build_tries(const Normalizer* normalizer) {
  std::vector<ByteTrie::Entry> raw, normalized;
  std::size_t left_bytes = kMaxSearchedBytes;
  PatternEffort effort(kMaxSearchedBytes);
  const auto keep = [&](const AddedToken& token, std::size_t place) {
    std::string form = normalized_form(token, normalizer, effort);
    // PyPI tokenizers would find it between any two characters.
    if (form.empty()) throw not_supported(token, "the normalizer leaves nothing of it");
    if (form.size() > kMaxSearchedTokenBytes)
      throw not_supported(token, "it is longer than " + std::to_string(kMaxSearchedTokenBytes) + " bytes");
    if (form.size() > left_bytes)
      throw not_supported(token, "all together are longer than " + std::to_string(kMaxSearchedBytes) + " bytes");
    left_bytes -= form.size();
    (token.normalized ? normalized : raw).push_back({std::move(form), checked_cast<std::int64_t>(place)});
  };
  // Of equal forms a trie takes the last one.
  for (const bool special : {false, true})
    for (std::size_t i = entries_.size(); i-- > 0;)
      if (entries_[i].token.special == special) keep(entries_[i].token, i);
  raw_trie_ = ByteTrie(std::move(raw));
  normalized_trie_ = ByteTrie(std::move(normalized));
}

std::optional<std::int64_t> AddedTokens::find_id(std::string_view content) const {
  const auto place = places_.find(content);
  if (place == places_.end()) return std::nullopt;
  return entries_[static_cast<std::size_t>(place->second)].id;
}

void AddedTokens::cut(const ByteTrie& trie, const Piece& whole, std::vector<Piece>& pieces) const {
  const std::string_view text = whole.text;
  std::size_t done = 0;  // all before this is in pieces
  SpaceEnds space_ends(text);
  const auto add = [&](std::size_t begin, std::size_t end, std::optional<std::int64_t> id) {
    if (begin >= end) return;
    const std::size_t origin_bytes = begin < whole.origin_bytes ? std::min(whole.origin_bytes, end) - begin : 0;
    pieces.push_back({text.substr(begin, end - begin), origin_bytes, id});
  };
  for (std::size_t at = 0; at < text.size();) {
    const auto match = trie.find_longest(text, at);
    if (!match) {
      ++at;
      continue;
    }
    std::size_t begin = at, end = at + match->size_bytes;
    at = end;  // where the search goes on, whatever becomes of this match
    const Entry& entry = entries_[static_cast<std::size_t>(match->value)];
    if (entry.token.single_word && (ends_with_word(text.substr(0, begin)) || starts_with_word(text.substr(end))))
      continue;
    if (entry.token.strip_left)
      begin = std::max(begin_of_trailing_space(text.substr(0, begin), std::min(done, begin)), done);
    if (entry.token.strip_right) end = space_ends.end_of_space_at(end);
    add(done, begin, std::nullopt);
    add(begin, end, entry.id);
    done = end;
  }
  add(done, text.size(), std::nullopt);
}

std::vector<Piece> AddedTokens::extract_and_normalize(std::string_view prompt, const Normalizer* normalizer,
                                                      Workspace& work) const {
  std::vector<Piece> raw_pieces, pieces;
  if (prompt.empty()) return pieces;
  std::size_t left_bytes = growth_limit(prompt.size());
  cut(raw_trie_, {prompt, decode_at(prompt, 0).size_bytes}, raw_pieces);
  for (const Piece& piece : raw_pieces) {
    if (piece.id) {
      pieces.push_back(piece);
      continue;
    }
    if (normalizer == nullptr) {
      cut(normalized_trie_, piece, pieces);
      continue;
    }
    NormalizedText text{std::string(piece.text), piece.origin_bytes, left_bytes, work.effort};
    normalizer->apply(text);
    left_bytes -= text.text.size();
    cut(normalized_trie_, {work.arena.keep(text.text), text.origin_bytes}, pieces);
  }
  return pieces;
}

}  // namespace spectrace::text
