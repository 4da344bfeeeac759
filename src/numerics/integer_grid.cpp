#include "integer_grid.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>

#include "spectrace/core/error.hpp"
#include "spectrace/core/parallel.hpp"
#include "spectrace/numerics/numerical_error.hpp"

namespace spectrace {
namespace {

constexpr std::int64_t kRowsTogether = 8;     // a cache line of a column
constexpr double kRoundToInteger = 0x1.8p52;  // added and taken off again
constexpr double kInverseRootOfTwo = 0.7072;  // a little more

/// Exact: every 16-bit number is a float32 number. A half has its exponent biased by 15, not 127: hence 2^112.
inline double decoded(std::uint16_t bits, SixteenBits type) {
  if (type == SixteenBits::bfloat16) return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
  const auto magnitude = static_cast<std::uint32_t>(bits & 0x7fff) << 13;
  const float value = std::bit_cast<float>(magnitude) * 0x1p112f;
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) | static_cast<std::uint32_t>(bits & 0x8000) << 16);
}

template <SixteenBits kType>
void decode_as(const std::uint16_t* from, std::int64_t count, double* to) {
  for (std::int64_t i = 0; i < count; ++i) to[i] = decoded(from[i], kType);
}

void decode(const Rows16& rows, std::int64_t row, std::int64_t first, std::int64_t count, double* to) {
  const std::uint16_t* from = rows.data + row * rows.num_columns + first;
  if (rows.type == SixteenBits::bfloat16) {
    decode_as<SixteenBits::bfloat16>(from, count, to);
  } else {
    decode_as<SixteenBits::float16>(from, count, to);
  }
}

/// An odd number for each column, without a pattern (splitmix64).
std::uint64_t check_weight(std::int64_t column) {
  std::uint64_t x = (static_cast<std::uint64_t>(column) + 1) * 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return (x ^ (x >> 31)) | 1u;
}

std::uint64_t wrapped(double integer) { return static_cast<std::uint64_t>(static_cast<std::int64_t>(integer)); }

}  // namespace

bool are_finite(const std::uint16_t* data, std::int64_t count, SixteenBits type) {
  std::int16_t largest = 0;
  for (std::int64_t i = 0; i < count; ++i) largest = std::max(largest, static_cast<std::int16_t>(data[i] & 0x7fff));
  return largest < (type == SixteenBits::bfloat16 ? 0x7f80 : 0x7c00);
}

GridRows::GridRows(const Rows16& rows, Block memory) : rows_(rows), memory_(memory) {
  SPECTRACE_ASSERT(memory.rows >= rows.count && memory.columns == rows.num_columns);
  remainders_.resize(static_cast<std::size_t>((rows.num_columns + kStripColumns - 1) / kStripColumns));
  add_grid();
}

Block GridRows::integers(int grid) const { return memory_.part(grid * rows_.count, 0, rows_.count, rows_.num_columns); }

GridRows::Strip GridRows::strip(std::int64_t index) const {
  const std::int64_t first = index * kStripColumns;
  return {first, std::min(kStripColumns, rows_.num_columns - first)};
}

void GridRows::add_grid() {
  SPECTRACE_ASSERT(num_grids_ < 2 && memory_.rows >= (num_grids_ + 1) * rows_.count);
  const int grid = num_grids_;
  const auto num_columns = static_cast<std::size_t>(rows_.num_columns);
  grids_[grid].units.assign(num_columns, 0.0);
  grids_[grid].inverses.assign(num_columns, 0.0);
  grids_[grid].check_sums.assign(static_cast<std::size_t>(num_strips() * rows_.count), 0);
  choose_units(grid);
  std::atomic<bool> is_dense = false;
  parallel_for(num_strips(), [&](std::int64_t s) {
    round(grid, s);
    const auto num_entries = static_cast<double>(rows_.count * strip(s).num_columns);
    if (static_cast<double>(remainders(s).size()) > kMostRemainders * num_entries) is_dense = true;
  });
  is_dense_ = is_dense;
  ++num_grids_;
}

/// What an entry has left beside its multiples of the first units. All steps are exact: an integer of 8 or 11 bits
/// times a power of two, less such a number on a coarser grid.
inline double GridRows::rest(double entry, std::int64_t column, int num_grids) const {
  const auto c = static_cast<std::size_t>(column);
  for (int grid = 0; grid < num_grids; ++grid) {
    const double scaled = entry * grids_[grid].inverses[c];
    entry = (scaled - ((scaled + kRoundToInteger) - kRoundToInteger)) * grids_[grid].units[c];
  }
  return entry;
}

/// With 2^e >= norm / sqrt(2) and unit 2^(e - 26) a column w of norm n has n / unit <= 2^26.4998, and its integers h,
/// each within 1/2 of w / unit, a norm below that plus sqrt(rows) / 2. So |sum h_i h_j| <= norm norm < 2^53.
void GridRows::choose_units(int grid) {
  parallel_for(num_strips(), [&](std::int64_t s) {
    const auto [first, num_columns] = strip(s);
    std::array<double, kStripColumns> entries, squares{};
    for (std::int64_t row = 0; row < rows_.count; ++row) {
      decode(rows_, row, first, num_columns, entries.data());
      for (std::int64_t c = 0; c < num_columns; ++c) {
        const double value = grid == 0 ? entries[static_cast<std::size_t>(c)]
                                       : rest(entries[static_cast<std::size_t>(c)], first + c, grid);
        squares[static_cast<std::size_t>(c)] += value * value;
      }
    }
    for (std::int64_t c = 0; c < num_columns; ++c) {
      const double sum = squares[static_cast<std::size_t>(c)];
      if (sum == 0) continue;
      int exponent = 0;
      (void)std::frexp(std::sqrt(sum) * kInverseRootOfTwo, &exponent);
      grids_[grid].units[static_cast<std::size_t>(first + c)] = std::ldexp(1.0, exponent - 26);
      grids_[grid].inverses[static_cast<std::size_t>(first + c)] = std::ldexp(1.0, 26 - exponent);
    }
  });
}

/// Integers, check sums and remainders of a strip's columns. Eight rows at a time, so that a column is written by whole
/// cache lines.
void GridRows::round(int grid, std::int64_t strip_index) {
  const Strip here = strip(strip_index);
  const double* const units = grids_[grid].units.data() + here.first;
  const double* const inverses = grids_[grid].inverses.data() + here.first;
  const Block to = memory_.part(grid * rows_.count, here.first, rows_.count, here.num_columns);
  std::uint64_t* const sums = grids_[grid].check_sums.data() + strip_index * rows_.count;
  std::array<std::uint64_t, kStripColumns> weights;
  for (std::int64_t c = 0; c < here.num_columns; ++c)
    weights[static_cast<std::size_t>(c)] = check_weight(here.first + c);
  remainders(strip_index).clear();
  std::array<double, kStripColumns> entries, rests;
  std::array<std::array<double, kStripColumns>, kRowsTogether> rounded;
  for (std::int64_t row = 0; row < rows_.count; row += kRowsTogether) {
    const std::int64_t height = std::min(kRowsTogether, rows_.count - row);
    for (std::int64_t r = 0; r < height; ++r) {
      decode(rows_, row + r, here.first, here.num_columns, entries.data());
      if (grid > 0)
        for (std::int64_t c = 0; c < here.num_columns; ++c) {
          double& entry = entries[static_cast<std::size_t>(c)];
          entry = rest(entry, here.first + c, grid);
        }
      double* const integers = rounded[static_cast<std::size_t>(r)].data();
      double largest = 0;
      for (std::int64_t c = 0; c < here.num_columns; ++c) {
        const double scaled = entries[static_cast<std::size_t>(c)] * inverses[c];
        integers[c] = (scaled + kRoundToInteger) - kRoundToInteger;
        rests[static_cast<std::size_t>(c)] = (scaled - integers[c]) * units[c];
        largest = std::max(largest, std::abs(rests[static_cast<std::size_t>(c)]));
      }
      if (largest > 0) take_remainders(grid, strip_index, row + r, rests.data());
      std::uint64_t sum = 0;
      for (std::int64_t c = 0; c < here.num_columns; ++c)
        sum += wrapped(integers[c]) * weights[static_cast<std::size_t>(c)];
      sums[row + r] = sum;
    }
    for (std::int64_t c = 0; c < here.num_columns; ++c)
      for (std::int64_t r = 0; r < height; ++r)
        to(row + r, c) = rounded[static_cast<std::size_t>(r)][static_cast<std::size_t>(c)];
  }
}

/// Of the first grid no more than tell that it is not enough; what is left by a second one all, since there is no
/// third.
void GridRows::take_remainders(int grid, std::int64_t strip_index, std::int64_t row, const double* values) {
  const Strip here = strip(strip_index);
  auto& list = remainders(strip_index);
  const auto limit = static_cast<std::size_t>(rows_.count * here.num_columns);
  if (grid == 0 && static_cast<double>(list.size()) > kMostRemainders * static_cast<double>(limit)) return;
  for (std::int64_t c = 0; c < here.num_columns; ++c)
    if (values[c] != 0)
      list.push_back({static_cast<std::int32_t>(row), static_cast<std::int32_t>(here.first + c), values[c]});
}

/// Exact: l has the same last bit as w and is no larger, so w - l / 2 has one bit more than w.
void GridRows::factors(std::int64_t row, double* result) const {
  decode(rows_, row, 0, rows_.num_columns, result);
  for (std::int64_t c = 0; c < rows_.num_columns; ++c) result[c] -= 0.5 * rest(result[c], c, num_grids_);
}

void GridRows::add_check_sums(int grid, std::int64_t first, std::int64_t num_columns,
                              std::vector<std::uint64_t>& sums) const {
  SPECTRACE_ASSERT(first % kStripColumns == 0);
  sums.assign(static_cast<std::size_t>(rows_.count), 0);
  for (std::int64_t s = first / kStripColumns; s * kStripColumns < first + num_columns; ++s) {
    const std::uint64_t* const of_strip = grids_[grid].check_sums.data() + s * rows_.count;
    for (std::size_t row = 0; row < sums.size(); ++row) sums[row] += of_strip[row];
  }
}

bool is_exact_product(Block product, std::int64_t first_row, std::int64_t first_column,
                      const std::vector<std::uint64_t>& left, const std::vector<std::uint64_t>& right) {
  std::uint64_t expected = 0, found = 0;
  for (std::size_t row = 0; row < left.size(); ++row) expected += left[row] * right[row];
  std::vector<std::uint64_t> weights(static_cast<std::size_t>(product.rows));
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = check_weight(first_row + static_cast<std::int64_t>(i));
  for (std::int64_t j = 0; j < product.columns; ++j) {
    std::uint64_t sum = 0;
    double fraction = 0;
    const double* const column = product.column(j);
    for (std::int64_t i = 0; i < product.rows; ++i) {
      // Beyond 2^53 nothing of a product is right, and no integer of 64 bits need hold it.
      if (!(std::abs(column[i]) <= 0x1p53)) return false;
      fraction += std::abs(column[i] - static_cast<double>(static_cast<std::int64_t>(column[i])));
      sum += wrapped(column[i]) * weights[static_cast<std::size_t>(i)];
    }
    if (fraction != 0) return false;
    found += sum * check_weight(first_column + j);
  }
  return found == expected;
}

void require_exact_product(Block product, std::int64_t first_row, std::int64_t first_column,
                           const std::vector<std::uint64_t>& left, const std::vector<std::uint64_t>& right) {
  if (!is_exact_product(product, first_row, first_column, left, right))
    throw NumericalError(
        "a float64 matrix product of integers, all sums of which are below 2^53, came out rounded: the "
        "BLAS of this libtorch computes products in another way than by multiplying and adding float64 "
        "numbers");
}

}  // namespace spectrace
