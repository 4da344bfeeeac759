// Included by one file for each kind of vector instructions, which defines SPECTRACE_KERNELS, the table's name, and
// SPECTRACE_LANES, how many float64 one vector holds.

#if SPECTRACE_LANES > 2
#include <immintrin.h>
#endif

#include "symmetric_kernels.hpp"

// Compiled without contractions: where a product and a sum are one operation is said here, so that a matrix has the
// same bits in every copy of a loop that the compiler makes.

namespace spectrace {
namespace {

constexpr int kLanes = SPECTRACE_LANES;
constexpr int kColumns = 4;  // of a strip
constexpr int kBlockRows = kLanes > kColumns ? kLanes : kColumns;
constexpr int kBlockVectors = kBlockRows / kLanes;
constexpr int kBlockSize = kBlockRows * kColumns;
constexpr int kMostGroups = 4;  // so many vectors in lock step hide how long a division takes
constexpr int kMostPairs = 8;
static_assert(kTridiagonalizationRows == 2 * kMostPairs + 2);
constexpr std::int64_t kSmallSize = 1024;  // up to which a matrix is near: its updates cost no time of their own

typedef double Lanes __attribute__((vector_size(kLanes * sizeof(double)), may_alias));
typedef std::int64_t Mask __attribute__((vector_size(kLanes * sizeof(std::int64_t)), may_alias));

// Everything is aligned.
inline Lanes load(const double* from) { return *reinterpret_cast<const Lanes*>(from); }
inline void store(double* to, Lanes lanes) { *reinterpret_cast<Lanes*>(to) = lanes; }
inline Lanes all(double x) { return x - Lanes{}; }
inline Lanes choose(Mask mask, Lanes yes, Lanes no) { return mask ? yes : no; }

/// a b + c and c - a b, rounded once where the processor can.
#if SPECTRACE_LANES == 8
inline Lanes add_product(Lanes c, Lanes a, Lanes b) { return _mm512_fmadd_pd(a, b, c); }
inline Lanes subtract_product(Lanes c, Lanes a, Lanes b) { return _mm512_fnmadd_pd(a, b, c); }
#elif SPECTRACE_LANES == 4
inline Lanes add_product(Lanes c, Lanes a, Lanes b) { return _mm256_fmadd_pd(a, b, c); }
inline Lanes subtract_product(Lanes c, Lanes a, Lanes b) { return _mm256_fnmadd_pd(a, b, c); }
#else
inline Lanes add_product(Lanes c, Lanes a, Lanes b) { return c + a * b; }
inline Lanes subtract_product(Lanes c, Lanes a, Lanes b) { return c - a * b; }
#endif

inline double sum(Lanes x) {
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) x[i] += x[i + width];
  return x[0];
}

inline double dot(const double* a, const double* b, std::int64_t first, std::int64_t end) {
  Lanes sums[4] = {};
  std::int64_t i = first;
  for (; i + 4 * kLanes <= end; i += 4 * kLanes)
    for (int k = 0; k < 4; ++k) sums[k] = add_product(sums[k], load(a + i + k * kLanes), load(b + i + k * kLanes));
  for (int k = 0; i < end; i += kLanes, ++k) sums[k] = add_product(sums[k], load(a + i), load(b + i));
  return sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

/// A step takes A to H A H = A - v w^T - w v^T, and the next one needs A x of that. Where the matrix is near, both are
/// one pass over it. Where it is far, what counts is how many bytes come and go: it is only read for A x, and several
/// pairs v, w are taken off at once (as LAPACK's dsytrd does it: Dongarra, Sorensen, Hammarling 1989), in one pass with
/// the next product.
class Tridiagonalization {
 public:
  Tridiagonalization(double* strips, std::int64_t n, std::int64_t padded_rows, double* work)
      : strips_(strips),
        n_(n),
        rows_(padded_rows),
        pairs_(n > kSmallSize ? kMostPairs : 1),
        v_(work),
        w_(v_ + kMostPairs * rows_),
        x_(w_ + kMostPairs * rows_),
        y_(x_ + rows_) {}

  void run(double* diagonal, double* beside) {
    for (std::int64_t k = 0; k < n_; ++k) {
      take_column(k);
      diagonal[k] = x_[k];
      beside[k] = k + 1 < n_ ? x_[k + 1] : 0;
      if (k + 2 >= n_) continue;  // a last step has nothing to reflect
      const double scale = make_reflector(k, beside[k]);
      multiply(k + 1);
      finish(k, scale);
    }
  }

 private:
  static std::int64_t first_row(std::int64_t strip) { return strip * kColumns / kBlockRows * kBlockRows; }
  /// Of the strip's first block: strips lie one after the other, each from its block of the diagonal on.
  double* strip_at(std::int64_t strip) const {
    constexpr std::int64_t kStripsOfBlock = kBlockRows / kColumns;
    const std::int64_t whole = strip / kStripsOfBlock, rest = strip % kStripsOfBlock;
    const std::int64_t rows_before = kStripsOfBlock * (whole * rows_ - kBlockRows * whole * (whole - 1) / 2);
    return strips_ + kColumns * (rows_before + rest * (rows_ - whole * kBlockRows));
  }

  double* v(int pair) const { return v_ + pair * rows_; }
  double* w(int pair) const { return w_ + pair * rows_; }

  /// x = column k of A - sum of v w^T + w v^T over the pairs that are not taken off yet, from row k on.
  void take_column(std::int64_t k) {
    const std::int64_t strip = k / kColumns, begin = first_row(strip);
    const double* from = strip_at(strip) + (k - strip * kColumns) * kBlockRows;
    for (std::int64_t i = begin; i < rows_; i += kBlockRows, from += kBlockSize)
      for (int j = 0; j < kBlockVectors; ++j) store(x_ + i + j * kLanes, load(from + j * kLanes));
    for (int p = 0; p < num_pairs_; ++p) {
      const double *const vp = v(p), *const wp = w(p);
      const Lanes vk = all(vp[k]), wk = all(wp[k]);
      for (std::int64_t i = begin; i < rows_; i += kLanes)
        store(x_ + i, subtract_product(subtract_product(load(x_ + i), load(vp + i), wk), load(wp + i), vk));
    }
  }

  /// Makes x the vector u, zero up to row k and 1 in the next, of the reflector H = I - scale u u^T that takes the
  /// column's rest to (image, 0, ...).
  double make_reflector(std::int64_t k, double& image) {
    const std::int64_t begin = (k + 1) / kLanes * kLanes;
    const double first = x_[k + 1];
    for (std::int64_t i = begin; i <= k + 1; ++i) x_[i] = 0;
    for (std::int64_t i = first_row(k / kColumns); i < begin; ++i) x_[i] = 0;
    const double rest = dot(x_, x_, begin, rows_);
    // A sum of squares below this has lost digits; what it is of is less than 1e-140 of the largest entry.
    if (rest < 1e-280) {
      for (std::int64_t i = begin; i < rows_; ++i) x_[i] = 0;
      return 0;
    }
    const double norm = __builtin_sqrt(first * first + rest);
    image = first > 0 ? -norm : norm;
    const Lanes factor = all(1 / (first - image));
    for (std::int64_t i = begin; i < rows_; i += kLanes) store(x_ + i, load(x_ + i) * factor);
    x_[k + 1] = 1;
    return (image - first) / image;
  }

  /// y = A x, less what the pairs that are not taken off take, of rows and columns from `first` on. Earlier ones change
  /// and have no use any more.
  void multiply(std::int64_t first) {
    const std::int64_t begin = first / kColumns;
    for (std::int64_t i = first_row(begin); i < rows_; ++i) y_[i] = 0;
    if (num_pairs_ < pairs_) {
      multiply_strips<0>(begin);
      subtract_pairs(first / kLanes * kLanes);
      return;
    }
    pairs_ == 1 ? multiply_strips<1>(begin) : multiply_strips<kMostPairs>(begin);
    num_pairs_ = 0;
  }

  /// y -= V (W^T x) + W (V^T x)
  void subtract_pairs(std::int64_t begin) {
    for (int p = 0; p < num_pairs_; ++p) {
      const double *const vp = v(p), *const wp = w(p);
      const Lanes by_v = all(dot(wp, x_, begin, rows_)), by_w = all(dot(vp, x_, begin, rows_));
      for (std::int64_t i = begin; i < rows_; i += kLanes)
        store(y_ + i, subtract_product(subtract_product(load(y_ + i), load(vp + i), by_v), load(wp + i), by_w));
    }
  }

  template <int kPairs>
  void multiply_strips(std::int64_t begin) {
    double* place = strip_at(begin);
    for (std::int64_t strip = begin; strip * kColumns < n_; ++strip) place = multiply_strip<kPairs>(strip, place);
  }

  /// A strip's part of y = A x, after A -= V W^T + W V^T of so many pairs. Returns the next strip.
  template <int kPairs>
  double* multiply_strip(std::int64_t strip, double* a) {
    const std::int64_t column = strip * kColumns, begin = first_row(strip);
    Lanes xc[kColumns], sums[kColumns] = {};
    for (int c = 0; c < kColumns; ++c) xc[c] = all(x_[column + c]);
    // The block of the diagonal is there whole.
    multiply_block<kPairs>(a, begin, column, xc, nullptr);
    a += kBlockSize;
    for (std::int64_t i = begin + kBlockRows; i < rows_; i += kBlockRows, a += kBlockSize)
      multiply_block<kPairs>(a, i, column, xc, sums);
    for (int c = 0; c < kColumns; ++c) y_[column + c] += sum(sums[c]);
    return a;
  }

  /// Of a block the product with x, and below the diagonal (`sums`) that of its transpose with x.
  template <int kPairs>
  inline void multiply_block(double* a, std::int64_t first_row, std::int64_t column, const Lanes (&xc)[kColumns],
                             Lanes* sums) {
    for (int j = 0; j < kBlockVectors; ++j) {
      const std::int64_t row = first_row + j * kLanes;
      Lanes entries[kColumns];
      for (int c = 0; c < kColumns; ++c) entries[c] = load(a + c * kBlockRows + j * kLanes);
      for (int p = 0; p < kPairs; ++p) {
        const double *const vp = v(p), *const wp = w(p);
        const Lanes vr = load(vp + row), wr = load(wp + row);
        for (int c = 0; c < kColumns; ++c)
          entries[c] = subtract_product(subtract_product(entries[c], vr, all(wp[column + c])), wr, all(vp[column + c]));
      }
      Lanes y = load(y_ + row);
      for (int c = 0; c < kColumns; ++c) {
        if constexpr (kPairs > 0) store(a + c * kBlockRows + j * kLanes, entries[c]);
        y = add_product(y, entries[c], xc[c]);
      }
      store(y_ + row, y);
      if (sums == nullptr) continue;
      const Lanes x = load(x_ + row);
      for (int c = 0; c < kColumns; ++c) sums[c] = add_product(sums[c], entries[c], x);
    }
  }

  /// A new pair v = x and w = scale (y - scale/2 (x . y) x): A - v w^T - w v^T is H A H.
  void finish(std::int64_t k, double scale) {
    double *const vp = v(num_pairs_), *const wp = w(num_pairs_);
    ++num_pairs_;
    const std::int64_t begin = (k + 1) / kLanes * kLanes;
    const Lanes half = all(scale / 2 * dot(x_, y_, begin, rows_)), factor = all(scale);
    for (std::int64_t i = first_row(k / kColumns); i < begin; ++i) vp[i] = wp[i] = 0;
    for (std::int64_t i = begin; i < rows_; i += kLanes) {
      const Lanes x = load(x_ + i);
      store(wp + i, factor * subtract_product(load(y_ + i), half, x));
      store(vp + i, x);
    }
  }

  double* const strips_;
  const std::int64_t n_, rows_;
  const int pairs_;    // that are taken off at once
  int num_pairs_ = 0;  // that are not taken off yet
  double *const v_, *const w_, *const x_, *const y_;
};

/// G vectors of matrices in lock step.
template <int G>
class LockStep {
 public:
  LockStep(double* diagonal, double* squares, std::int64_t n, double* values, bool* converged)
      : d_(diagonal), e_(squares), n_(n), values_(values), converged_(converged) {}

  void run() {
    set_thresholds();
    for (int m = 0; m < kMatrices; ++m) {
      low_[m] = 0;
      converged_[m] = false;
    }
    deflate();
    for (std::int64_t i = 0; num_left_ > 0 && i < 30 * n_; ++i) {
      make_shifts();
      sweep();
      deflate();
    }
  }

 private:
  static constexpr int kMatrices = G * kLanes;

  Lanes row(const double* from, std::int64_t i, int g) const { return load(from + i * kMatrices + g * kLanes); }
  void set_row(double* to, std::int64_t i, int g, Lanes x) const { store(to + i * kMatrices + g * kLanes, x); }

  /// An entry beside the diagonal below u times the matrix' norm counts as zero.
  void set_thresholds() {
    for (int g = 0; g < G; ++g) {
      Lanes norm = {}, before = {};
      for (std::int64_t i = 0; i < n_; ++i) {
        const Lanes d = row(d_, i, g);
        Lanes e = row(e_, i, g);
        for (int k = 0; k < kLanes; ++k) e[k] = __builtin_sqrt(e[k]);
        const Lanes here = before + choose(d < 0, -d, d) + e;
        norm = choose(here > norm, here, norm);
        before = e;
      }
      store(threshold_ + g * kLanes, (norm * 0x1p-53) * (norm * 0x1p-53));
    }
  }

  /// Moves on to each matrix' first entry beside the diagonal that is none; takes the values of those that are done.
  void deflate() {
    first_ = n_;
    last_ = -1;
    num_left_ = 0;
    for (int m = 0; m < kMatrices; ++m) {
      if (converged_[m]) continue;
      while (low_[m] < n_ - 1 && e_[low_[m] * kMatrices + m] <= threshold_[m]) ++low_[m];
      if (low_[m] >= n_ - 1) {
        take(m);
        continue;
      }
      ++num_left_;
      first_ = low_[m] < first_ ? low_[m] : first_;
      last_ = low_[m] > last_ ? low_[m] : last_;
    }
  }

  /// Its lane goes on with a diagonal matrix, whatever the others need: no number in it grows or becomes subnormal.
  void take(int m) {
    for (std::int64_t i = 0; i < n_; ++i) {
      values_[m * n_ + i] = d_[i * kMatrices + m];
      d_[i * kMatrices + m] = 1;
      e_[i * kMatrices + m] = 0;
    }
    converged_[m] = true;
    low_[m] = n_;
  }

  /// Wilkinson's, of each matrix' first two rows that are left.
  void make_shifts() {
    alignas(64) double here[kMatrices], next[kMatrices], square[kMatrices];
    for (int m = 0; m < kMatrices; ++m) {
      const std::int64_t at = (converged_[m] ? 0 : low_[m]) * kMatrices + m;
      here[m] = d_[at];
      next[m] = n_ > 1 ? d_[at + kMatrices] : 0;
      square[m] = converged_[m] ? 1 : e_[at];
    }
    for (int g = 0; g < G; ++g) {
      Lanes root = load(square + g * kLanes);
      for (int k = 0; k < kLanes; ++k) root[k] = __builtin_sqrt(root[k]);
      const Lanes ratio = (load(next + g * kLanes) - load(here + g * kLanes)) / (2 * root);
      Lanes length = ratio * ratio + 1;
      for (int k = 0; k < kLanes; ++k) length[k] = __builtin_sqrt(length[k]);
      shift_[g] = load(here + g * kLanes) - root / (ratio + choose(ratio < 0, -length, length));
    }
  }

  void sweep() {
    for (int g = 0; g < G; ++g) {
      gamma_[g] = away_from_zero(row(d_, n_ - 1, g) - shift_[g]);
      p_[g] = gamma_[g] * gamma_[g];
      s_[g] = Lanes{};
    }
    std::int64_t i = n_ - 2;
    for (; i >= last_; --i)
      for (int g = 0; g < G; ++g) step<false>(i, g);
    for (; i >= first_; --i)
      for (int g = 0; g < G; ++g) step<true>(i, g);
    for (int m = 0; m < kMatrices; ++m) {
      if (converged_[m]) continue;
      const int g = m / kLanes, k = m % kLanes;
      e_[low_[m] * kMatrices + m] = s_[g][k] * p_[g][k];
      d_[low_[m] * kMatrices + m] = shift_[g][k] + gamma_[g][k];
    }
  }

  /// One rotation of each matrix; masked: of those that have row i still, the others stay as they are.
  template <bool kMasked>
  void step(std::int64_t i, int g) {
    const Lanes square = row(e_, i, g), alpha = row(d_, i, g);
    const Lanes p = p_[g], gamma = gamma_[g], r = p + square;
    // c = p / r, s = square / r, and the next p = gamma^2 / c, with one division.
    const Lanes inverse = 1 / (p * r), one_over_r = p * inverse, one_over_p = r * inverse;
    const Lanes c = p * one_over_r, s = square * one_over_r;
    const Lanes next = c * (alpha - shift_[g]) - s * gamma;
    const Lanes below = s_[g] * r, value = gamma + (alpha - next);
    const Lanes moved = away_from_zero(next), next_p = (moved * moved) * (r * one_over_p);
    if constexpr (kMasked) {
      const Mask has = load_mask(g) <= i;
      set_row(e_, i + 1, g, choose(has, below, row(e_, i + 1, g)));
      set_row(d_, i + 1, g, choose(has, value, row(d_, i + 1, g)));
      gamma_[g] = choose(has, moved, gamma);
      p_[g] = choose(has, next_p, p);
      s_[g] = choose(has, s, s_[g]);
    } else {
      set_row(e_, i + 1, g, below);
      set_row(d_, i + 1, g, value);
      gamma_[g] = moved;
      p_[g] = next_p;
      s_[g] = s;
    }
  }

  Mask load_mask(int g) const { return *reinterpret_cast<const Mask*>(low_ + g * kLanes); }

  /// So that no quotient is 0 / 0: 1e-70 of entries near 1 is nothing.
  static Lanes away_from_zero(Lanes x) {
    const Lanes least = all(1e-70);
    return choose((x < least) & (x > -least), least, x);
  }

  double *const d_, *const e_;
  const std::int64_t n_;
  double* const values_;
  bool* const converged_;
  alignas(64) std::int64_t low_[kMatrices];  // each matrix' first row that is left; n where none is
  alignas(64) double threshold_[kMatrices];
  std::int64_t first_ = 0, last_ = 0;  // the least and the greatest of low_, of what is left
  int num_left_ = 0;
  Lanes shift_[G], gamma_[G], p_[G], s_[G];
};

void tridiagonalize(double* strips, std::int64_t n, std::int64_t padded_rows, double* work, double* diagonal,
                    double* beside) {
  Tridiagonalization(strips, n, padded_rows, work).run(diagonal, beside);
}

void values_of_tridiagonals(double* diagonal, double* squares, std::int64_t n, std::int64_t together, double* values,
                            bool* converged) {
  switch (together / kLanes) {
    case 1: return LockStep<1>(diagonal, squares, n, values, converged).run();
    case 2: return LockStep<2>(diagonal, squares, n, values, converged).run();
    case 3: return LockStep<3>(diagonal, squares, n, values, converged).run();
    case 4: return LockStep<4>(diagonal, squares, n, values, converged).run();
    default: __builtin_trap();  // symmetric_eigenvalues has checked it
  }
}

}  // namespace

const SymmetricKernels SPECTRACE_KERNELS = {kBlockRows, kMostGroups* kLanes, kLanes, tridiagonalize,
                                            values_of_tridiagonals};

}  // namespace spectrace
