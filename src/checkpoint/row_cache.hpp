#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "spectrace/numerics/tensor.hpp"

namespace spectrace {

/// Rows of embeddings that were looked up, the first ones up to a limit: in text the frequent ones come first. Safe to
/// use from several threads at once.
class RowCache {
 public:
  static constexpr std::int64_t kMostBytes = 64 << 20;

  /// `tensor`: its index; `row`: converted to the type.
  std::optional<Tensor> find(std::size_t tensor, std::int64_t row, at::ScalarType type) const {
    const std::lock_guard lock(mutex_);
    const auto found = rows_.find({tensor, row});
    if (found == rows_.end() || found->second.scalar_type() != type) return std::nullopt;
    return found->second;
  }
  void add(std::size_t tensor, std::int64_t row, const Tensor& values) {
    const std::lock_guard lock(mutex_);
    const auto bytes = static_cast<std::int64_t>(values.nbytes());
    if (bytes_ + bytes > kMostBytes) return;
    if (rows_.try_emplace({tensor, row}, values.clone()).second) bytes_ += bytes;
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<std::size_t, std::int64_t>, Tensor> rows_;
  std::int64_t bytes_ = 0;
};

}  // namespace spectrace
