#include "tall_qr.hpp"

#include <algorithm>

#include "spectrace/core/error.hpp"
#include "spectrace/core/parallel.hpp"

namespace spectrace {
namespace {

constexpr std::int64_t kWidth = 64;
constexpr std::int64_t kTile = 256;
constexpr std::int64_t kNarrow = 256;  // up to here LAPACK's dgeqrf is as fast, and has nothing to share out

void copy(Block from, Block to) {
  for (std::int64_t j = 0; j < from.columns; ++j) std::copy_n(from.column(j), from.rows, to.column(j));
}

void clear_below_diagonal(Block r) {
  for (std::int64_t j = 0; j < r.columns; ++j) std::fill(r.column(j) + j + 1, r.column(j) + r.columns, 0.0);
}

}  // namespace

Block TallQr::Stack::top(std::int64_t k, std::int64_t width) const { return first.part(k, 0, width, first.columns); }

Block TallQr::Stack::rest(std::int64_t k, std::int64_t width) const {
  if (!is_triangle_above) return first.below(k + width);
  return is_triangle_below ? below.top(std::min(below.rows, k + width)) : below;
}

TallQr::TallQr(std::int64_t max_rows, std::int64_t num_columns)
    : num_columns_(num_columns), factorization_(std::max(kWidth, std::min(num_columns, kNarrow))) {
  if (num_columns <= 0) return;
  const auto width = static_cast<std::size_t>(std::min(kWidth, num_columns));
  const auto height = static_cast<std::size_t>(max_rows) + width;
  for (Panel& panel : panels_) {
    panel.reflectors.resize(height * width);
    panel.triangle.resize(width * width);
  }
  stacked_.resize(height * width);
  products_.resize(static_cast<std::size_t>(num_columns) * width);
}

std::int64_t tall_qr_bytes(std::int64_t max_rows, std::int64_t num_columns) {
  const std::int64_t width = std::min(kWidth, num_columns);
  return 8 * (3 * (max_rows + width) * width + 2 * num_columns * width);
}

void TallQr::factorize(Block a) {
  SPECTRACE_ASSERT(a.rows >= a.columns && a.columns == num_columns_);
  if (a.columns <= kNarrow) {
    factorization_.triangle_of(a);
  } else {
    run({a, {}, false, false});
  }
  clear_below_diagonal(a);
}

void TallQr::update(Block r, Block rows) {
  SPECTRACE_ASSERT(r.rows == num_columns_ && r.columns == num_columns_ && rows.columns == num_columns_);
  run({r, rows, true, false});
}

void TallQr::merge(Block r, Block triangle) {
  SPECTRACE_ASSERT(r.rows == num_columns_ && r.columns == num_columns_);
  SPECTRACE_ASSERT(triangle.rows == num_columns_ && triangle.columns == num_columns_);
  run({r, triangle, true, true});
}

void TallQr::run(const Stack& stack) {
  const std::int64_t n = num_columns_;
  factorize_panel_at(stack, 0, panels_[0]);
  for (std::int64_t k = 0, step = 0; k + kWidth < n; k += kWidth, ++step) {
    const Panel& panel = panels_[step % 2];
    Panel& next = panels_[(step + 1) % 2];
    const std::int64_t next_first = k + kWidth, next_width = std::min(kWidth, n - next_first);
    const std::int64_t first = next_first + next_width;
    const std::int64_t num_tiles = (n - first + kTile - 1) / kTile;
    parallel_for(1 + num_tiles, [&](std::int64_t task) {
      if (task == 0) {
        apply(stack, k, panel, next_first, next_width);
        factorize_panel_at(stack, next_first, next);
      } else {
        const std::int64_t tile = first + (task - 1) * kTile;
        apply(stack, k, panel, tile, std::min(kTile, n - tile));
      }
    });
  }
}

void TallQr::factorize_panel_at(const Stack& stack, std::int64_t k, Panel& panel) {
  const std::int64_t width = std::min(kWidth, num_columns_ - k);
  const Block top = stack.top(k, width), rest = stack.rest(k, width);
  const std::int64_t height = width + rest.rows;
  const Block together{stacked_.data(), height, width, height};
  copy(top.part(0, k, width, width), together.top(width));
  copy(rest.part(0, k, rest.rows, width), together.below(width));
  panel.v = {panel.reflectors.data(), height, width, height};
  panel.t = {panel.triangle.data(), width, width, width};
  factorization_.factorize(together, panel.v, panel.t);
  copy(together.top(width), top.part(0, k, width, width));
}

/// Q^T of a panel times columns: A - V (A^T V T)^T.
void TallQr::apply(const Stack& stack, std::int64_t k, const Panel& panel, std::int64_t first, std::int64_t count) {
  const std::int64_t width = panel.v.columns;
  const Block top = stack.top(k, width).part(0, first, width, count);
  const Block all_rest = stack.rest(k, width), rest = all_rest.part(0, first, all_rest.rows, count);
  const Block v_top = panel.v.top(width), v_rest = panel.v.below(width);
  const Block product{products_.data() + first, count, width, num_columns_};
  std::vector<double> memory(static_cast<std::size_t>(count * width));
  const Block with_t{memory.data(), count, width, count};
  multiply(Form::transposed, top, Form::as_is, v_top, product, 1.0, 0.0);
  if (rest.rows > 0) multiply(Form::transposed, rest, Form::as_is, v_rest, product, 1.0, 1.0);
  multiply(Form::as_is, product, Form::as_is, panel.t, with_t, 1.0, 0.0);
  multiply(Form::as_is, v_top, Form::transposed, with_t, top, -1.0, 1.0);
  if (rest.rows > 0) multiply(Form::as_is, v_rest, Form::transposed, with_t, rest, -1.0, 1.0);
}

}  // namespace spectrace
