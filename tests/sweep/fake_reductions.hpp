#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "spectrace/comm/reductions.hpp"

namespace spectrace {

/// Reductions over ranks that one test plays all of: each is done when every rank has posted it. Checks that all post
/// the same.
class FakeReductions {
 public:
  explicit FakeReductions(int num_ranks) : posted_(static_cast<std::size_t>(num_ranks)) {
    for (int rank = 0; rank < num_ranks; ++rank) ends_.push_back(std::make_unique<End>(*this, rank));
  }
  Reductions& of(int rank) { return *ends_[static_cast<std::size_t>(rank)]; }
  std::size_t largest() const { return largest_; }

 private:
  struct Post {
    std::span<std::int64_t> numbers;
    std::span<double> values;
    bool is_sum;
    std::optional<int> root;
  };

  class End final : public Reductions {
   public:
    End(FakeReductions& all, int rank) : all_(all), rank_(static_cast<std::size_t>(rank)) {}
    void post_sum(std::span<std::int64_t> values, int root) override { post({values, {}, true, root}); }
    void post_min(std::span<double> values, int root) override {
      for (const double value : values) EXPECT_FALSE(value == 0 && std::signbit(value));
      post({{}, values, false, root});
    }
    void post_min_everywhere(std::span<std::int64_t> values) override { post({values, {}, false, std::nullopt}); }
    bool is_done() override {
      all_.reduce();
      return all_.posted_[rank_].size() == all_.num_done_;
    }
    const char* backend() const override { return "fake"; }

   private:
    void post(const Post& what) {
      all_.largest_ = std::max({all_.largest_, what.numbers.size(), what.values.size()});
      all_.posted_[rank_].push_back(what);
    }
    FakeReductions& all_;
    std::size_t rank_;
  };

  bool is_posted_by_all() const {
    return std::all_of(posted_.begin(), posted_.end(), [&](const auto& of) { return of.size() > num_done_; });
  }
  void reduce() {
    for (; is_posted_by_all(); ++num_done_) {
      const Post& first = posted_.front()[num_done_];
      std::vector<std::int64_t> numbers(first.numbers.begin(), first.numbers.end());
      std::vector<double> values(first.values.begin(), first.values.end());
      for (std::size_t rank = 1; rank < posted_.size(); ++rank) {
        const Post& other = posted_[rank][num_done_];
        ASSERT_EQ(other.numbers.size(), numbers.size());
        ASSERT_EQ(other.values.size(), values.size());
        ASSERT_EQ(other.is_sum, first.is_sum);
        ASSERT_EQ(other.root, first.root);
        for (std::size_t i = 0; i < numbers.size(); ++i)
          numbers[i] = first.is_sum ? numbers[i] + other.numbers[i] : std::min(numbers[i], other.numbers[i]);
        for (std::size_t i = 0; i < values.size(); ++i) values[i] = std::min(values[i], other.values[i]);
      }
      for (std::size_t rank = 0; rank < posted_.size(); ++rank) {
        const Post& post = posted_[rank][num_done_];
        const bool gets_it = !post.root || static_cast<std::size_t>(*post.root) == rank;
        // On the others it is of no use to anybody.
        std::fill(post.numbers.begin(), post.numbers.end(), -99);
        std::fill(post.values.begin(), post.values.end(), -99);
        if (!gets_it) continue;
        std::copy(numbers.begin(), numbers.end(), post.numbers.begin());
        std::copy(values.begin(), values.end(), post.values.begin());
      }
    }
  }

  std::vector<std::vector<Post>> posted_;  // by rank
  std::size_t num_done_ = 0, largest_ = 0;
  std::vector<std::unique_ptr<End>> ends_;
};

}  // namespace spectrace
