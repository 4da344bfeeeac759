#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace spectrace::text {

/// A set of texts with a number each, to find those that a text begins with. A node's children lie side by side, so one
/// memchr finds the next step.
class ByteTrie {
 public:
  struct Entry {
    std::string text;  ///< not empty
    std::int64_t value;
  };

  /// Of entries with the same text the last one counts.
  explicit ByteTrie(std::vector<Entry> entries);

  struct Match {
    std::size_t size_bytes;
    std::int64_t value;
  };

  /// Calls f(Match) for every entry that `text` has at `begin`, the shortest first.
  template <typename F>
  void for_each_prefix(std::string_view text, std::size_t begin, const F& f) const {
    std::uint32_t node = 0;
    for (std::size_t i = begin; i < text.size(); ++i) {
      const Node& parent = nodes_[node];
      const char* const labels = labels_.data() + parent.first_child;
      const void* const child = parent.num_children == 0 ? nullptr : std::memchr(labels, text[i], parent.num_children);
      if (child == nullptr) return;
      node = parent.first_child + static_cast<std::uint32_t>(static_cast<const char*>(child) - labels);
      if (nodes_[node].value >= 0) f(Match{i + 1 - begin, nodes_[node].value});
    }
  }

  /// The longest entry that `text` has at `begin`.
  std::optional<Match> find_longest(std::string_view text, std::size_t begin) const;

 private:
  struct Node {
    std::uint32_t first_child = 0, num_children = 0;
    std::int64_t value = -1;
  };
  std::vector<Node> nodes_;
  std::string labels_;  // of the byte that leads to each node
};

}  // namespace spectrace::text
