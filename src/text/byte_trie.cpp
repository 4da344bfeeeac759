#include "spectrace/text/byte_trie.hpp"

#include <algorithm>

#include "spectrace/core/checked_cast.hpp"
#include "spectrace/core/error.hpp"

namespace spectrace::text {

ByteTrie::ByteTrie(std::vector<Entry> entries) {
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.text < b.text; });
  nodes_.emplace_back();
  labels_ += '\0';

  // Nodes are made level by level: a node stands for a range of sorted entries that share their first `depth` bytes.
  struct Range {
    std::uint32_t node;
    std::size_t begin, end;
  };
  std::vector<Range> level{{0, 0, entries.size()}};
  for (std::size_t depth = 0; !level.empty(); ++depth) {
    std::vector<Range> next_level;
    for (const auto& [node, begin, end] : level) {
      std::size_t i = begin;
      for (; i < end && entries[i].text.size() == depth; ++i) {
        SPECTRACE_ASSERT(entries[i].value >= 0 && depth > 0);
        nodes_[node].value = entries[i].value;
      }
      nodes_[node].first_child = checked_cast<std::uint32_t>(nodes_.size());
      while (i < end) {
        const char label = entries[i].text[depth];
        std::size_t child_end = i;
        while (child_end < end && entries[child_end].text[depth] == label) ++child_end;
        next_level.push_back({checked_cast<std::uint32_t>(nodes_.size()), i, child_end});
        nodes_.emplace_back();
        labels_ += label;
        ++nodes_[node].num_children;
        i = child_end;
      }
    }
    level = std::move(next_level);
  }
}

std::optional<ByteTrie::Match> ByteTrie::find_longest(std::string_view text, std::size_t begin) const {
  std::optional<Match> longest;
  for_each_prefix(text, begin, [&](const Match& match) { longest = match; });
  return longest;
}

}  // namespace spectrace::text
