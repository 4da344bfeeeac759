#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "spectrace/store/result_tree.hpp"

namespace spectrace {

/// The digest of a dataset's numbers, fed in parts.
class NumbersDigest {
 public:
  explicit NumbersDigest(std::uint64_t count);
  ~NumbersDigest();
  NumbersDigest(NumbersDigest&&) noexcept;
  NumbersDigest& operator=(NumbersDigest&&) noexcept;
  void add(std::span<const double> values);
  /// Call once.
  std::string hex_digest();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string digest_values(const DatasetValues& values);

/// content_sha256 of a tree some of whose values are not in memory: `digest_of` knows theirs.
std::string digest_tree(const ResultTree& tree,
                        const std::function<std::string(const Group&, const Dataset&)>& digest_of);

}  // namespace spectrace
