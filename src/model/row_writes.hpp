#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "spectrace/core/stage_times.hpp"
#include "spectrace/model/forward.hpp"
#include "spectrace/numerics/spectral_summary.hpp"
#include "spectrace/numerics/token_geometry.hpp"

namespace spectrace {

/// Takes down what a block does to some rows, if somebody wants to know.
class RowWrites {
 public:
  /// @param x what enters the block: [rows, hidden_size].
  /// @param multiplier of what is written before it is added.
  RowWrites(BlockWrites* writes, std::int64_t first, const Tensor& x, double multiplier)
      : writes_(writes), first_(first), multiplier_(multiplier), entering_(writes == nullptr ? Tensor() : x.clone()) {}

  void see_attention(const Tensor& written) const {
    if (writes_ != nullptr) see(written, writes_->attention_norm, writes_->attention_cosine);
  }
  void see_mlp(const Tensor& written) const {
    if (writes_ != nullptr) see(written, writes_->mlp_norm, writes_->mlp_cosine);
  }
  void see_leaving(const Tensor& x) const {
    if (writes_ == nullptr) return;
    const TaskStageTimer timer(Stage::forward, Stage::statistics);
    put(writes_->leaving_cosine, row_cosines(entering_, x), 1);
  }

 private:
  void see(const Tensor& written, std::vector<double>& norms, std::vector<double>& cosines) const {
    const TaskStageTimer timer(Stage::forward, Stage::statistics);
    put(norms, row_norms(written), std::abs(multiplier_));
    put(cosines, row_cosines(entering_, written), multiplier_ < 0 ? -1 : 1);
  }
  void put(std::vector<double>& all, const std::vector<double>& of_rows, double factor) const {
    std::transform(of_rows.begin(), of_rows.end(), all.begin() + first_, [=](double x) { return factor * x; });
  }

  BlockWrites* const writes_;
  const std::int64_t first_;
  const double multiplier_;
  const Tensor entering_;
};

}  // namespace spectrace
