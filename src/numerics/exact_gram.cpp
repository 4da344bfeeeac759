#include "spectrace/numerics/exact_gram.hpp"

#include <algorithm>
#include <array>
#include <tuple>
#include <utility>

#include "double_double.hpp"
#include "double_double_cholesky.hpp"
#include "integer_grid.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/parallel.hpp"

namespace spectrace {
namespace {

constexpr std::int64_t kSuperblockRows = 4096;  // fewer cost passes over the sums, more cost memory and remainders
constexpr std::int64_t kFewestRows = 64;        // that are still cut in halves
constexpr std::int64_t kGramTile = 192;         // whole strips, and whole tiles of the product's kernel
constexpr std::int64_t kGroupColumns = 8;       // whose remainders share the reading of rows

struct Span {
  std::int64_t first, count;
};

Span tile_of(std::int64_t index, std::int64_t size) {
  return {index * kGramTile, std::min(kGramTile, size - index * kGramTile)};
}

/// The tiles of an upper triangle, column by column.
std::array<std::int64_t, 2> upper_tile(std::int64_t index) {
  std::int64_t column = 0;
  while (index > column) index -= ++column;
  return {index, column};
}

SixteenBits sixteen_bits(at::ScalarType type) {
  SPECTRACE_ASSERT(type == at::kBFloat16 || type == at::kHalf);
  return type == at::kBFloat16 ? SixteenBits::bfloat16 : SixteenBits::float16;
}

/// Column-major.
Block block_of(const Tensor& t) { return {t.mutable_data_ptr<double>(), t.size(1), t.size(0), t.size(1)}; }

/// The rows of a block of W into Z, where W^T W = Z + Z^T.
class Accumulation {
 public:
  Accumulation(GridRows& rows, Block high, Block low) : rows_(rows), high_(high), low_(low) {}

  /// Returns how many numbers were added to an entry one after the other.
  std::int64_t run() {
    const std::int64_t num_tiles = (high_.columns + kGramTile - 1) / kGramTile,
                       num_upper = num_tiles * (num_tiles + 1) / 2;
    for (int grid = 0; grid < rows_.num_grids(); ++grid)
      parallel_for(num_upper, [&](std::int64_t task) {
        const auto [i, j] = upper_tile(task);
        add_product(grid, grid, tile_of(i, high_.columns), tile_of(j, high_.columns), i == j ? 0.5 : 1.0);
      });
    if (rows_.num_grids() > 1)
      parallel_for(num_tiles * num_tiles, [&](std::int64_t task) {
        add_product(0, 1, tile_of(task % num_tiles, high_.columns), tile_of(task / num_tiles, high_.columns), 1.0);
      });
    parallel_for(rows_.num_strips(), [&](std::int64_t strip) { add_remainders(rows_.remainders(strip)); });
    return rows_.num_grids() == 1 ? 2 : 4;
  }

 private:
  void add_product(int left, int right, Span rows, Span columns, double factor) {
    const Tensor memory = at::empty({columns.count, rows.count}, at::kDouble);
    const Block product = block_of(memory);
    const Block a = rows_.integers(left), b = rows_.integers(right);
    multiply(Form::transposed, a.part(0, rows.first, a.rows, rows.count), Form::as_is,
             b.part(0, columns.first, b.rows, columns.count), product, 1.0, 0.0);
    std::vector<std::uint64_t> left_sums, right_sums;
    rows_.add_check_sums(left, rows.first, rows.count, left_sums);
    rows_.add_check_sums(right, columns.first, columns.count, right_sums);
    require_exact_product(product, rows.first, columns.first, left_sums, right_sums);
    std::vector<double> units(static_cast<std::size_t>(rows.count));
    for (std::int64_t i = 0; i < rows.count; ++i)
      units[static_cast<std::size_t>(i)] = factor * rows_.unit(left, rows.first + i);
    for (std::int64_t j = 0; j < columns.count; ++j) {
      const double unit = rows_.unit(right, columns.first + j);
      const double* const from = product.column(j);
      double* const high = high_.column(columns.first + j) + rows.first;
      double* const low = low_.column(columns.first + j) + rows.first;
      for (std::int64_t i = 0; i < rows.count; ++i) {
        const DoubleDouble sum =
            DoubleDouble{high[i], low[i]} + DoubleDouble{from[i] * (units[static_cast<std::size_t>(i)] * unit), 0.0};
        high[i] = sum.high;
        low[i] = sum.low;
      }
    }
  }

  /// (W - L)^T (W - L) is in the products; L^T (W - L / 2) and its transpose are what W^T W has beside it. Column c of
  /// Z gets l (w - l / 2) for every remainder l of column c, with the rest of its row: exact products of at most 9 and
  /// 8 bits, or of 12 and 11.
  void add_remainders(std::vector<Remainder>& remainders) {
    std::sort(remainders.begin(), remainders.end(), [](const Remainder& a, const Remainder& b) {
      return std::tuple(a.column / kGroupColumns, a.row, a.column) <
             std::tuple(b.column / kGroupColumns, b.row, b.column);
    });
    for (auto first = remainders.begin(); first != remainders.end();) {
      const auto last = std::find_if(first, remainders.end(), [&](const Remainder& other) {
        return other.column / kGroupColumns != first->column / kGroupColumns;
      });
      add_group({first, last});
      first = last;
    }
  }

  /// First to sums of their own, which stay in the cache.
  void add_group(std::span<const Remainder> remainders) {
    const std::int64_t n = high_.columns;
    const auto size = static_cast<std::size_t>(n);
    const auto kernel = double_double_kernel().add_scaled;
    std::array<std::vector<double>, kGroupColumns> highs, lows;
    std::vector<double> factors(size);
    std::int64_t row = -1;
    for (const Remainder& remainder : remainders) {
      if (remainder.row != row) rows_.factors(row = remainder.row, factors.data());
      const auto place = static_cast<std::size_t>(remainder.column % kGroupColumns);
      highs[place].resize(size);
      lows[place].resize(size);
      kernel(remainder.value, factors.data(), n, highs[place].data(), lows[place].data());
    }
    const std::int64_t first_column = remainders.front().column / kGroupColumns * kGroupColumns;
    for (std::size_t place = 0; place < highs.size(); ++place) {
      if (highs[place].empty()) continue;
      const std::int64_t column = first_column + static_cast<std::int64_t>(place);
      double* const high = high_.column(column);
      double* const low = low_.column(column);
      for (std::size_t i = 0; i < size; ++i) {
        const DoubleDouble sum = DoubleDouble{high[i], low[i]} + DoubleDouble{highs[place][i], lows[place][i]};
        high[i] = sum.high;
        low[i] = sum.low;
      }
    }
  }

  GridRows& rows_;
  Block high_, low_;
};

/// Rows of the float64 buffer for blocks of so many rows; two grids of few rows have to fit.
std::int64_t integer_rows(std::int64_t num_rows) {
  return std::max(std::min(num_rows, kSuperblockRows), 2 * kFewestRows) + 8;  // a power of two strains the cache
}

}  // namespace

ExactGram::ExactGram(std::int64_t num_columns) : num_columns_(num_columns) { SPECTRACE_ASSERT(num_columns >= 0); }

void ExactGram::reserve_sums() {
  if (high_.defined()) return;
  high_ = at::zeros({num_columns_, num_columns_}, at::kDouble);
  low_ = at::zeros({num_columns_, num_columns_}, at::kDouble);
}

void ExactGram::add_rows(const Tensor& block) {
  SPECTRACE_ASSERT(block.dim() == 2 && block.size(1) == num_columns_);
  SPECTRACE_ASSERT(facts_.num_rows == 0 || !buffer_.defined() || block.scalar_type() == type_);
  const SixteenBits type = sixteen_bits(block.scalar_type());
  type_ = block.scalar_type();
  facts_.num_rows += block.size(0);
  if (num_columns_ == 0) return;
  if (!buffer_.defined()) buffer_ = at::empty({kSuperblockRows, num_columns_}, at::kShort);
  auto* const buffer = reinterpret_cast<std::uint16_t*>(buffer_.mutable_data_ptr<std::int16_t>());
  for (std::int64_t row = 0; row < block.size(0);) {
    const std::int64_t count = std::min(block.size(0) - row, kSuperblockRows - num_buffered_);
    buffer_.narrow(0, num_buffered_, count).copy_(block.narrow(0, row, count).view(at::kShort));
    if (!are_finite(buffer + num_buffered_ * num_columns_, count * num_columns_, type))
      throw NumericalError("an entry of the matrix is not finite");
    num_buffered_ += count;
    row += count;
    if (num_buffered_ == kSuperblockRows) process_buffer();
  }
}

void ExactGram::process_buffer() {
  if (!integers_.defined()) integers_ = at::empty({num_columns_, integer_rows(num_buffered_)}, at::kDouble);
  reserve_sums();
  process(reinterpret_cast<const std::uint16_t*>(buffer_.const_data_ptr<std::int16_t>()), num_buffered_);
  num_buffered_ = 0;
}

/// Where many entries have a remainder, they get a second grid; where even that leaves many, or has no room, halves of
/// the rows have grids that fit them better, and few rows always do.
void ExactGram::process(const std::uint16_t* rows, std::int64_t count) {
  GridRows grids({rows, count, num_columns_, sixteen_bits(type_)}, block_of(integers_));
  if (grids.is_dense()) {
    const bool has_room = 2 * count <= integers_.size(1);
    if (has_room) grids.add_grid();
    if (!has_room || (grids.is_dense() && count > kFewestRows)) {
      process(rows, count / 2);
      process(rows + count / 2 * num_columns_, count - count / 2);
      return;
    }
  }
  facts_.num_additions += Accumulation(grids, block_of(high_), block_of(low_)).run();
}

void ExactGram::add_sums(std::span<const double> high, std::span<const double> low, const GramFacts& facts) {
  const std::int64_t n = num_columns_;
  SPECTRACE_ASSERT(std::cmp_equal(high.size(), n * (n + 1) / 2) && low.size() == high.size());
  reserve_sums();
  const Block sums_high = block_of(high_), sums_low = block_of(low_);
  parallel_for(n, [&](std::int64_t j) {
    const std::int64_t first = j * (j + 1) / 2;
    double* const to_high = sums_high.column(j);
    double* const to_low = sums_low.column(j);
    for (std::int64_t i = 0; i <= j; ++i) {
      const auto from = static_cast<std::size_t>(first + i);
      const double factor = i == j ? 0.5 : 1.0;
      const DoubleDouble sum =
          DoubleDouble{to_high[i], to_low[i]} + DoubleDouble{factor * high[from], factor * low[from]};
      to_high[i] = sum.high;
      to_low[i] = sum.low;
    }
  });
  facts_.num_rows += facts.num_rows;
  // Parts have no row in common: their errors are relative to norms of their own, so not one after the other.
  facts_.num_additions = std::max(facts_.num_additions, facts.num_additions) + 1;
}

GramOfRows ExactGram::take() {
  if (num_buffered_ > 0) process_buffer();
  buffer_.reset();
  integers_.reset();
  reserve_sums();
  const std::int64_t n = num_columns_;
  GramOfRows gram;
  gram.facts = facts_;
  gram.high.resize(static_cast<std::size_t>(n * (n + 1) / 2));
  gram.low.resize(gram.high.size());
  const Block high = block_of(high_), low = block_of(low_);
  // By strips of columns and of rows: what is read across stays in the cache.
  parallel_for((n + kStripColumns - 1) / kStripColumns, [&](std::int64_t strip) {
    const std::int64_t first = strip * kStripColumns, last = std::min(n, first + kStripColumns);
    for (std::int64_t first_row = 0; first_row < last; first_row += kStripColumns)
      for (std::int64_t j = std::max(first, first_row); j < last; ++j)
        for (std::int64_t i = first_row; i < std::min(j + 1, first_row + kStripColumns); ++i) {
          const DoubleDouble sum = DoubleDouble{high(i, j), low(i, j)} + DoubleDouble{high(j, i), low(j, i)};
          const auto to = static_cast<std::size_t>(j * (j + 1) / 2 + i);
          gram.high[to] = sum.high;
          gram.low[to] = sum.low;
        }
  });
  high_.reset();
  low_.reset();
  return gram;
}

double gram_flops(std::int64_t num_rows, std::int64_t num_columns) {
  const auto m = static_cast<double>(num_rows), n = static_cast<double>(num_columns);
  return m * n * n;
}

std::int64_t gram_bytes(std::int64_t num_rows, std::int64_t num_columns) {
  const std::int64_t n = num_columns, sums = 16 * n * n;
  const std::int64_t rows = (2 * kSuperblockRows + 8 * integer_rows(num_rows)) * n;
  const std::int64_t check_sums = 16 * kSuperblockRows * ((n + kStripColumns - 1) / kStripColumns);
  const auto remainders =
      static_cast<std::int64_t>(kMostRemainders * static_cast<double>(sizeof(Remainder)) * kSuperblockRows) * n;
  return sums + std::max(rows + check_sums + remainders, 8 * n * (n + 1));
}

std::int64_t gram_join_bytes(std::int64_t num_columns) {
  const std::int64_t n = num_columns;
  return std::max(16 * n * n + 8 * n * (n + 1), gram_singular_values_bytes(n));
}

}  // namespace spectrace
