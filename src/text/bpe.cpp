#include "spectrace/text/bpe.hpp"

#include <algorithm>
#include <bit>
#include <queue>
#include <random>

#include "spectrace/core/checked_cast.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/text/limits.hpp"
#include "spectrace/text/utf8.hpp"
#include "spectrace/text/word_cache.hpp"

namespace spectrace::text {
namespace {

using TokenId = std::uint32_t;
constexpr std::int64_t no_token = -1;

struct RankedMerge {
  std::uint32_t rank;
  TokenId merged;
};

/// Pair of tokens -> its merge. Open addressing: the look-up is what merging spends its time on.
class MergeTable {
 public:
  explicit MergeTable(std::size_t num_merges)
      : mask_(std::bit_ceil(2 * num_merges + 2) - 1),
        shift_(64 - std::countr_one(mask_)),
        keys_(mask_ + 1, empty),
        merges_(mask_ + 1) {}

  /// A pair that is given twice keeps its last rank, as in PyPI tokenizers.
  void set(TokenId left, TokenId right, RankedMerge merge) {
    const std::size_t slot = slot_of(key_of(left, right));
    keys_[slot] = key_of(left, right);
    merges_[slot] = merge;
  }

  const RankedMerge* find(TokenId left, TokenId right) const {
    const std::size_t slot = slot_of(key_of(left, right));
    return keys_[slot] == empty ? nullptr : &merges_[slot];
  }

 private:
  static constexpr std::uint64_t empty = ~std::uint64_t{0};
  static std::uint64_t key_of(TokenId left, TokenId right) { return std::uint64_t{left} << 32 | right; }

  std::size_t slot_of(std::uint64_t key) const {
    std::size_t slot = key * multiplier_ >> shift_;
    while (keys_[slot] != empty && keys_[slot] != key) slot = (slot + 1) & mask_;
    return slot;
  }

  /// Another one in every process, so that no file can be made whose pairs share a slot. What is found does not depend
  /// on it.
  static std::uint64_t random_multiplier() {
    std::random_device random;
    return (std::uint64_t{random()} << 32 | random()) | 1;
  }

  std::size_t mask_;
  int shift_;
  std::uint64_t multiplier_ = random_multiplier();
  std::vector<std::uint64_t> keys_;
  std::vector<RankedMerge> merges_;
};

constexpr std::uint32_t no_symbol = ~std::uint32_t{0};

struct Symbol {
  TokenId token;
  std::uint32_t previous, next;
  bool is_merged_away;
};

struct Candidate {
  std::uint32_t rank, position;
  TokenId merged;
};

/// The queue's top is the lowest rank, the leftmost among equals.
struct ComesLater {
  bool operator()(const Candidate& a, const Candidate& b) const {
    return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
  }
};

/// Merges until no pair of neighbours has a merge; what stays is appended.
void merge_all(const std::vector<std::int64_t>& tokens, const MergeTable& merges, std::vector<std::int64_t>& ids) {
  std::vector<Symbol> symbols(tokens.size());
  std::vector<Candidate> initial;
  const auto last = checked_cast<std::uint32_t>(tokens.size() - 1);
  for (std::uint32_t i = 0; i <= last; ++i) {
    symbols[i] = {static_cast<TokenId>(tokens[i]), i == 0 ? no_symbol : i - 1, i == last ? no_symbol : i + 1, false};
    if (i == 0) continue;
    if (const RankedMerge* merge = merges.find(symbols[i - 1].token, symbols[i].token))
      initial.push_back({merge->rank, i - 1, merge->merged});
  }
  std::priority_queue<Candidate, std::vector<Candidate>, ComesLater> queue(ComesLater(), std::move(initial));
  const auto consider = [&](std::uint32_t left) {
    const Symbol& symbol = symbols[left];
    if (const RankedMerge* merge = merges.find(symbol.token, symbols[symbol.next].token))
      queue.push({merge->rank, left, merge->merged});
  };
  while (!queue.empty()) {
    const Candidate candidate = queue.top();
    queue.pop();
    Symbol& left = symbols[candidate.position];
    if (left.is_merged_away || left.next == no_symbol) continue;
    Symbol& right = symbols[left.next];
    // The pair may have changed since. That another pair which gives the same token passes, at the old pair's rank, is
    // how PyPI tokenizers has it.
    const RankedMerge* merge = merges.find(left.token, right.token);
    if (merge == nullptr || merge->merged != candidate.merged) continue;

    left.token = candidate.merged;
    left.next = right.next;
    right.is_merged_away = true;
    if (left.next != no_symbol) symbols[left.next].previous = candidate.position;
    if (left.previous != no_symbol) consider(left.previous);
    if (left.next != no_symbol) consider(candidate.position);
  }
  for (const Symbol& symbol : symbols)
    if (!symbol.is_merged_away) ids.push_back(symbol.token);
}

InputError missing_token(const std::string& document, const std::string& token) {
  return InputError(ErrorKind::model, document + ": a merge needs the token '" + shown(token) + "'",
                    "it is not in the vocabulary", "Is the file complete, and from the same model as its merges?");
}

}  // namespace

struct Bpe::Tables {
  Vocabulary vocabulary;
  MergeTable merges;
  std::vector<std::optional<std::int64_t>> byte_tokens;
  WordCache cache{};
};

Bpe::Bpe(Vocabulary vocabulary, const std::vector<Merge>& merges, BpeOptions options, const std::string& document)
    : options_(std::move(options)) {
  MergeTable table(merges.size());
  const auto id_of = [&](std::string_view token) {
    const auto it = vocabulary.find(token);
    if (it == vocabulary.end()) throw missing_token(document, std::string(token));
    return static_cast<TokenId>(it->second);
  };
  for (const auto& [token, id] : vocabulary) {
    if (id < 0 || id > kMaxTokenId)
      throw InputError(ErrorKind::model,
                       document + ": the token '" + shown(token) + "' has the id " + std::to_string(id),
                       "ids are from 0 to " + std::to_string(kMaxTokenId));
    largest_id_ = std::max(largest_id_, id);
  }
  std::string merged;
  std::uint32_t rank = 0;
  for (const Merge& merge : merges) {
    if (merge.right.size() < options_.continuing_prefix.size()) throw missing_token(document, merge.right);
    merged = merge.left;
    merged.append(merge.right, options_.continuing_prefix.size());
    table.set(id_of(merge.left), id_of(merge.right), {rank++, id_of(merged)});
  }
  auto byte_tokens = find_byte_tokens(vocabulary);
  tables_.reset(new Tables{std::move(vocabulary), std::move(table), std::move(byte_tokens)});
}

Bpe::~Bpe() = default;

std::optional<std::int64_t> Bpe::find_id(std::string_view token) const {
  const auto it = tables_->vocabulary.find(token);
  return it == tables_->vocabulary.end() ? std::nullopt : std::optional(it->second);
}

std::int64_t Bpe::vocabulary_size() const { return checked_cast<std::int64_t>(tables_->vocabulary.size()); }

std::string Bpe::kind() const { return options_.byte_fallback ? "byte-fallback BPE" : "BPE"; }

std::vector<std::int64_t> Bpe::character_tokens(std::string_view piece) const {
  std::vector<std::int64_t> tokens;
  tokens.reserve(piece.size());
  std::int64_t pending_unknown = no_token;  // put when the next known character comes, or at the end
  std::string character;
  for (std::size_t i = 0; i < piece.size();) {
    const std::size_t size = decode_at(piece, i).size_bytes;
    character.clear();
    if (i > 0) character += options_.continuing_prefix;
    character += piece.substr(i, size);
    i += size;
    if (i == piece.size()) character += options_.word_suffix;

    if (const auto id = find_id(character)) {
      if (pending_unknown != no_token) tokens.push_back(pending_unknown);
      pending_unknown = no_token;
      tokens.push_back(*id);
      continue;
    }
    const auto byte_token = [&](char byte) { return tables_->byte_tokens[static_cast<unsigned char>(byte)]; };
    if (options_.byte_fallback &&
        std::all_of(character.begin(), character.end(), [&](char byte) { return byte_token(byte).has_value(); })) {
      for (const char byte : character) tokens.push_back(*byte_token(byte));
      continue;
    }
    if (!options_.unknown_token) continue;
    const auto unknown = find_id(*options_.unknown_token);
    if (!unknown)
      throw InputError(ErrorKind::prompt,
                       "the text holds '" + shown(character) + "', for which the tokenizer has no token",
                       "nor is its unknown token '" + shown(*options_.unknown_token) + "' in its vocabulary");
    if (pending_unknown != no_token && !options_.fuse_unknown) tokens.push_back(pending_unknown);
    pending_unknown = *unknown;
  }
  if (pending_unknown != no_token) tokens.push_back(pending_unknown);
  return tokens;
}

void Bpe::encode(std::string_view piece, std::vector<std::int64_t>& ids) const {
  if (piece.empty()) return;
  if (options_.ignore_merges) {
    if (const auto id = find_id(piece)) {
      ids.push_back(*id);
      return;
    }
  }
  if (tables_->cache.find(piece, ids)) return;
  const std::size_t first = ids.size();
  const auto tokens = character_tokens(piece);
  if (!tokens.empty()) merge_all(tokens, tables_->merges, ids);
  tables_->cache.put(piece, ids, first);
}

}  // namespace spectrace::text
