#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "spectrace/numerics/tensor.hpp"

namespace spectrace {

/// Rows of embeddings that were looked up or will be, the first ones up to a limit: in text the frequent ones come
/// first. Safe to use from several threads at once.
class RowCache {
 public:
  static constexpr std::int64_t kMostBytes = 64 << 20;

  /// Rows of the tensor that will be looked up, sorted, and the type that they will be asked for in.
  struct Expected {
    std::vector<std::int64_t> rows;
    at::ScalarType type = at::kFloat;
  };
  void expect(std::size_t tensor, Expected expected) {
    const std::lock_guard lock(mutex_);
    expected_[tensor] = std::make_shared<const Expected>(std::move(expected));
  }
  /// Null if nothing is expected of the tensor.
  std::shared_ptr<const Expected> expected(std::size_t tensor) const {
    const std::lock_guard lock(mutex_);
    const auto found = expected_.find(tensor);
    return found == expected_.end() ? nullptr : found->second;
  }

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
  std::map<std::size_t, std::shared_ptr<const Expected>> expected_;
  std::map<std::pair<std::size_t, std::int64_t>, Tensor> rows_;
  std::int64_t bytes_ = 0;
};

}  // namespace spectrace
