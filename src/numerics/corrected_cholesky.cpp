#include "corrected_cholesky.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "double_double.hpp"
#include "reflector_error.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/parallel.hpp"

namespace spectrace {
namespace {

constexpr std::int64_t kTile = 256;
constexpr double kForRoundings = 1.001;       // of the bound's own sums
constexpr double kGridOfLeading = 0x1.8p26;  // added and taken off again: to multiples of 2^-26

/// Tiles on and below the diagonal of a square matrix, of which those above it belong to somebody else: those on it lie
/// apart.
struct LowerTiles {
  Block square;
  std::vector<double> diagonal;  // [tiles, kTile, kTile]

  explicit LowerTiles(Block memory)
      : square(memory), diagonal(static_cast<std::size_t>((memory.columns + kTile - 1) / kTile * kTile * kTile)) {}

  std::int64_t size(std::int64_t tile) const { return std::min(kTile, square.columns - tile * kTile); }
  Block tile(std::int64_t i, std::int64_t k) {
    if (i == k) return {diagonal.data() + i * kTile * kTile, size(i), size(i), kTile};
    return square.part(i * kTile, k * kTile, size(i), size(k));
  }
  /// Row i of tiles left of tile k.
  Block left_of(std::int64_t i, std::int64_t k) const { return square.part(i * kTile, 0, size(i), k * kTile); }
};

/// result = scale a b^T + keep result of the rows i and j of two lower triangles, over the tiles up to `last`.
void multiply_rows(LowerTiles& a, std::int64_t i, LowerTiles& b, std::int64_t j, std::int64_t last, Block result,
                   double scale, double keep) {
  if (last > 0) {
    multiply(Form::as_is, a.left_of(i, last), Form::transposed, b.left_of(j, last), result, scale, keep);
    keep = 1;
  }
  multiply(Form::as_is, a.tile(i, last), Form::transposed, b.tile(j, last), result, scale, keep);
}

/// L with G = L L^T + E, in three parts: L = A + B1 + B2, A in multiples of 2^-26 and B1 of a power of two such that A
/// A^T and A B1^T are exact in float64, as products of integers. Then E takes what is left of G when those have been
/// taken off, and float64 products of small numbers.
class CorrectedCholesky {
 public:
  explicit CorrectedCholesky(const ScaledGram& gram)
      : gram_(gram),
        n_(gram.size()),
        num_tiles_((n_ + kTile - 1) / kTile),
        first_memory_(at::empty({n_, n_}, at::kDouble)),
        second_memory_(at::empty({n_, n_}, at::kDouble)),
        l_({first_memory_.mutable_data_ptr<double>(), n_, n_, n_}),
        b1_({second_memory_.mutable_data_ptr<double>(), n_, n_, n_}),
        b2_diagonal_(l_.diagonal.size()) {}

  std::optional<GramTriangle> run() {
    if (!factorize()) return {};
    split();
    take_leading_products();
    for_lower_tiles([&](std::int64_t i, std::int64_t k) { return add_to(l_.tile(i, k), b1_.tile(i, k), false); });
    take_remaining_products();
    for_lower_tiles([&](std::int64_t i, std::int64_t k) { return add_to(l_.tile(i, k), b2_transposed(i, k), true); });
    solve();
    return assembled();
  }

 private:
  /// Sum of what work gives for the tiles on and below the diagonal, in their order.
  double for_lower_tiles(const std::function<double(std::int64_t, std::int64_t)>& work) {
    std::vector<double> sums(static_cast<std::size_t>(num_tiles_ * (num_tiles_ + 1) / 2));
    parallel_for(static_cast<std::int64_t>(sums.size()), [&](std::int64_t task) {
      std::int64_t i = 0, k = task;
      while (k > i) k -= ++i;
      sums[static_cast<std::size_t>(task)] = work(i, k);
    });
    double sum = 0;
    for (const double x : sums) sum += x;
    return sum;
  }

  static double add_to(Block to, Block other, bool is_transposed) {
    for (std::int64_t j = 0; j < to.columns; ++j)
      for (std::int64_t i = 0; i < to.rows; ++i) to(i, j) += is_transposed ? other(j, i) : other(i, j);
    return 0;
  }

  /// B2 lies in the tiles above L's diagonal.
  Block b2_transposed(std::int64_t i, std::int64_t k) {
    if (i == k) return {b2_diagonal_.data() + i * kTile * kTile, l_.size(i), l_.size(i), kTile};
    return l_.square.part(k * kTile, i * kTile, l_.size(k), l_.size(i));
  }
  Block b2_above(std::int64_t i, std::int64_t last) {
    return l_.square.part(0, i * kTile, last * kTile, l_.size(i));
  }

  bool factorize() {
    for (std::int64_t j = 0; j < num_tiles_; ++j) {
      parallel_for(num_tiles_ - j, [&](std::int64_t task) {
        const std::int64_t i = j + task;
        const Block here = l_.tile(i, j);
        gram_.read(i * kTile, j * kTile, here);
        if (j > 0) multiply(Form::as_is, l_.left_of(i, j), Form::transposed, l_.left_of(j, j), here, -1.0, 1.0);
      });
      const Block diagonal = l_.tile(j, j);
      if (!factorize_cholesky(diagonal)) return false;
      for (std::int64_t c = 1; c < diagonal.columns; ++c) std::fill_n(diagonal.column(c), c, 0.0);
      parallel_for(num_tiles_ - j - 1, [&](std::int64_t task) {
        solve_lower_from_right(diagonal, l_.tile(j + 1 + task, j));
      });
    }
    smallest_pivot_ = std::numeric_limits<double>::infinity();
    for (std::int64_t j = 0; j < n_; ++j) {
      const std::int64_t tile = j / kTile, place = j % kTile;
      smallest_pivot_ = std::min(smallest_pivot_, l_.tile(tile, tile)(place, place) * gram_.scale(j));
    }
    return true;
  }

  /// Rows of L have norms below 1, so those of A are below 2^26 units, and those of B1 below sqrt(n) 2^-27.
  void split() {
    const int exponent = std::ilogb(std::sqrt(static_cast<double>(n_))) + 1 - 53;
    const double grid = std::ldexp(1.5, 52 + exponent);
    std::vector<double> squares(static_cast<std::size_t>(num_tiles_));  // of B2, by rows of tiles
    const double of_b1 = for_lower_tiles([&](std::int64_t i, std::int64_t k) {
      const Block l = l_.tile(i, k), b1 = b1_.tile(i, k), b2 = b2_transposed(i, k);
      double sum = 0;
      for (std::int64_t c = 0; c < l.columns; ++c)
        for (std::int64_t r = 0; r < l.rows; ++r) {
          const double a = (l(r, c) + kGridOfLeading) - kGridOfLeading, b = l(r, c) - a;
          b1(r, c) = (b + grid) - grid;
          b2(c, r) = b - b1(r, c);
          l(r, c) = a;
          const double weighted = b1(r, c) * gram_.scale(i * kTile + r);
          sum += weighted * weighted;
        }
      return sum;
    });
    squares_of_b1_ = of_b1;
    // |B2| <= half a unit of B1.
    const double weights = for_lower_tiles([&](std::int64_t i, std::int64_t k) {
      double sum = 0;
      for (std::int64_t r = 0; r < l_.size(i); ++r) {
        const double scale = gram_.scale(i * kTile + r);
        sum += scale * scale * static_cast<double>(l_.size(k));
      }
      return sum;
    });
    squares_of_b2_ = weights * std::ldexp(1.0, 2 * exponent - 2);
  }

  /// E = G - A A^T - A B1^T - B1 A^T - B1 B1^T, in the tiles on and above the diagonal.
  void take_leading_products() {
    squares_of_e_ = for_lower_tiles([&](std::int64_t i, std::int64_t j) {
      const std::int64_t rows = l_.size(j), columns = l_.size(i), size = rows * columns;
      std::vector<double> memory(static_cast<std::size_t>(5 * size));
      const auto block = [&](std::int64_t index) { return Block{memory.data() + index * size, rows, columns, rows}; };
      const Block leading = block(0), right = block(1), left = block(2), small = block(3), low = block(4);
      const Block e = b1_.square.part(j * kTile, i * kTile, rows, columns);
      multiply_rows(l_, j, l_, i, j, leading, 1.0, 0.0);
      multiply_rows(l_, j, b1_, i, j, right, 1.0, 0.0);
      multiply_rows(b1_, j, l_, i, j, left, 1.0, 0.0);
      multiply_rows(b1_, j, b1_, i, j, small, 1.0, 0.0);
      gram_.read(j * kTile, i * kTile, e, low);
      double sum = 0;
      for (std::int64_t c = 0; c < columns; ++c)
        for (std::int64_t r = 0; r < rows; ++r) {
          const DoubleDouble first = two_sum(e(r, c), -leading(r, c));
          const DoubleDouble second = two_sum(first.high, -right(r, c));
          const DoubleDouble third = two_sum(second.high, -left(r, c));
          e(r, c) = third.high + (((first.low + second.low) + third.low) + (low(r, c) - small(r, c)));
          const double weighted = e(r, c) * gram_.scale(j * kTile + r) * gram_.scale(i * kTile + c);
          sum += weighted * weighted;
        }
      return i == j ? sum : 2 * sum;
    });
  }

  /// E -= M B2^T + B2 M^T with M = A + B1, which has L's place; then E is put below the diagonal too.
  void take_remaining_products() {
    for_lower_tiles([&](std::int64_t i, std::int64_t j) {
      const Block e = b1_.square.part(j * kTile, i * kTile, l_.size(j), l_.size(i));
      if (j > 0) {
        multiply(Form::as_is, l_.left_of(j, j), Form::as_is, b2_above(i, j), e, -1.0, 1.0);
        multiply(Form::transposed, b2_above(j, j), Form::transposed, l_.left_of(i, j), e, -1.0, 1.0);
      }
      multiply(Form::as_is, l_.tile(j, j), Form::as_is, b2_transposed(i, j), e, -1.0, 1.0);
      multiply(Form::transposed, b2_transposed(j, j), Form::transposed, l_.tile(i, j), e, -1.0, 1.0);
      const Block mirrored = b1_.square.part(i * kTile, j * kTile, l_.size(i), l_.size(j));
      for (std::int64_t c = 0; c < e.columns; ++c)
        for (std::int64_t r = 0; r < (i == j ? c : e.rows); ++r) mirrored(c, r) = e(r, c);
      return 0.0;
    });
  }

  /// X = L^-1 E in E's place, by strips of columns.
  void solve() {
    const Block e = b1_.square;
    parallel_for(num_tiles_, [&](std::int64_t strip) {
      const std::int64_t first = strip * kTile, columns = l_.size(strip);
      for (std::int64_t k = 0; k < num_tiles_; ++k) {
        const Block here = e.part(k * kTile, first, l_.size(k), columns);
        if (k > 0)
          multiply(Form::as_is, l_.left_of(k, k), Form::as_is, e.part(0, first, k * kTile, columns), here, -1.0, 1.0);
        solve_lower(l_.tile(k, k), here);
      }
    });
  }

  std::optional<GramTriangle> assembled() {
    const Block x = b1_.square;
    std::vector<double> sums(static_cast<std::size_t>(num_tiles_));
    parallel_for(num_tiles_, [&](std::int64_t strip) {
      double sum = 0;
      for (std::int64_t k = 0; k < num_tiles_; ++k) {
        const Block here = x.part(k * kTile, strip * kTile, l_.size(k), l_.size(strip));
        const bool has_l = k <= strip;
        const Block l = has_l ? l_.tile(strip, k) : Block{};
        for (std::int64_t c = 0; c < here.columns; ++c)
          for (std::int64_t r = 0; r < here.rows; ++r) {
            const double scale = gram_.scale(strip * kTile + c), weighted = here(r, c) * scale;
            sum += weighted * weighted;
            here(r, c) = 0.5 * weighted + (has_l ? l(c, r) * scale : 0.0);
          }
      }
      sums[static_cast<std::size_t>(strip)] = sum;
    });
    double squares_of_x = 0;
    for (const double sum : sums) squares_of_x += sum;
    if (!std::isfinite(squares_of_x)) return {};
    return GramTriangle{second_memory_.t(), squared_error(squares_of_x),
                        kForRoundings * kUnitRoundoff * (std::sqrt(gram_.trace()) + std::sqrt(squares_of_x)),
                        smallest_pivot_};
  }

  /// Derivation: docs/numerics.md, "Singular values of 16-bit matrices". Norms are Frobenius', of W's own scale.
  double squared_error(double squares_of_x) const {
    const double n = static_cast<double>(n_), u = kUnitRoundoff;
    const auto gamma = [=](double count) { return count * u / (1 - count * u); };
    const double of_l = std::sqrt(kForRoundings * gram_.trace());
    const double b2 = std::sqrt(squares_of_b2_), e = std::sqrt(squares_of_e_), x = std::sqrt(squares_of_x);
    const double of_sum = u * e + gamma(n + 8) * squares_of_b1_ + 32 * u * u * gram_.trace();
    const double of_rest = gamma(2 * n + 4) * (e + 2 * of_l * b2) + squares_of_b2_;
    const double of_solution = gamma(n + 2) * of_l * x;
    return kForRoundings * (of_sum + of_rest + of_solution + squares_of_x / 4);
  }

  const ScaledGram& gram_;
  std::int64_t n_, num_tiles_;
  Tensor first_memory_;   // [n, n]: L, then A, M, and L again, below the diagonal; B2^T above
  Tensor second_memory_;  // [n, n]: B1 below, E above; then E, X and R
  LowerTiles l_, b1_;
  std::vector<double> b2_diagonal_;
  double squares_of_b1_ = 0, squares_of_b2_ = 0, squares_of_e_ = 0, smallest_pivot_ = 0;
};

}  // namespace

std::optional<GramTriangle> factorize_with_correction(const ScaledGram& gram) { return CorrectedCholesky(gram).run(); }

}  // namespace spectrace
