#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace spectrace::text {

/// Remembers the tokens of words, in bounded memory: a word has one slot, where a later one pushes it out. What it
/// answers is what was put in for that very word, so it never changes a result. For several threads at once.
class WordCache {
 public:
  /// Appends the word's ids if they are known.
  bool find(std::string_view word, std::vector<std::int64_t>& ids) const {
    const std::size_t hash = std::hash<std::string_view>()(word);
    const Slot& slot = slots_[hash % num_slots];
    const std::scoped_lock lock(mutexes_[hash % num_mutexes]);
    if (slot.word != word) return false;
    ids.insert(ids.end(), slot.ids.begin(), slot.ids.end());
    return true;
  }

  /// Ids [first, ids.size()) are the word's.
  void put(std::string_view word, const std::vector<std::int64_t>& ids, std::size_t first) {
    if (word.size() > longest_word_bytes || ids.size() - first > longest_word_bytes) return;
    const std::size_t hash = std::hash<std::string_view>()(word);
    Slot& slot = slots_[hash % num_slots];
    const std::scoped_lock lock(mutexes_[hash % num_mutexes]);
    slot.word = word;
    slot.ids.assign(ids.begin() + static_cast<std::ptrdiff_t>(first), ids.end());
  }

 private:
  static constexpr std::size_t num_slots = 1 << 15, num_mutexes = 64, longest_word_bytes = 256;
  struct Slot {
    std::string word;  // empty: free
    std::vector<std::int64_t> ids;
  };
  std::vector<Slot> slots_ = std::vector<Slot>(num_slots);
  mutable std::array<std::mutex, num_mutexes> mutexes_;
};

}  // namespace spectrace::text
