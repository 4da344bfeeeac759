// Included by one file for each kind of vector instructions, which defines SPECTRACE_KERNEL, the table's name, and
// SPECTRACE_LANES, how many float64 one vector holds.

#if SPECTRACE_LANES > 2
#include <immintrin.h>
#endif

#include "double_double_kernel.hpp"

namespace spectrace {
namespace {

constexpr int kLanes = SPECTRACE_LANES;

typedef double Lanes __attribute__((vector_size(kLanes * sizeof(double))));
typedef double UnalignedLanes __attribute__((vector_size(kLanes * sizeof(double)), aligned(sizeof(double)), may_alias));

inline Lanes load(const double* from) { return *reinterpret_cast<const UnalignedLanes*>(from); }
inline void store(double* to, Lanes lanes) { *reinterpret_cast<UnalignedLanes*>(to) = lanes; }

/// a b - product, which is a float64 number if product = fl(a b).
#if SPECTRACE_LANES == 8
inline Lanes product_error(Lanes a, Lanes b, Lanes product) { return _mm512_fmsub_pd(a, b, product); }
#elif SPECTRACE_LANES == 4
inline Lanes product_error(Lanes a, Lanes b, Lanes product) { return _mm256_fmsub_pd(a, b, product); }
#else
// Without fused multiply-add: halves of 26 bits (Dekker 1971, doi:10.1007/BF01397083).
inline Lanes upper_half(Lanes a) {
  const Lanes scaled = a * 0x8000001p0;
  return scaled - (scaled - a);
}
inline Lanes product_error(Lanes a, Lanes b, Lanes product) {
  const Lanes a1 = upper_half(a), a2 = a - a1, b1 = upper_half(b), b2 = b - b1;
  return ((a1 * b1 - product) + a1 * b2 + a2 * b1) + a2 * b2;
}
#endif

struct Pair {
  Lanes high, low;
};

inline Pair load(Panel64 from) { return {load(from.high), load(from.low)}; }
inline void store(Panel64 to, Pair pair) {
  store(to.high, pair.high);
  store(to.low, pair.low);
}
inline Panel64 shifted(Panel64 panel, std::int64_t count) { return {panel.high + count, panel.low + count}; }
inline Panel64 column_of(Panel64 panel, std::int64_t index) { return shifted(panel, index * kPanelRows); }

/// Dekker's FastTwoSum. Where high has cancelled and is smaller than low, it is off by 2 u |low|.
inline Pair carried(Lanes high, Lanes low) {
  const Lanes sum = high + low;
  return {sum, low - (sum - high)};
}

/// a b up to 8 u^2 |a b|; not carried.
inline Pair product(Pair a, Pair b) {
  const Lanes high = a.high * b.high;
  return {high, product_error(a.high, b.high, high) + (a.high * b.low + a.low * b.high)};
}

/// a - b of a product b, off by at most 16 u^2 (|a| + |b|).
inline Pair difference(Pair a, Pair b) {
  const Lanes sum = a.high - b.high, part = sum - a.high;
  const Lanes error = (a.high - (sum - part)) - (b.high + part);
  return carried(sum, error + (a.low - b.low));
}

inline Pair all_lanes(double high, double low) { return {high - Lanes{}, low - Lanes{}}; }

/// One block of c in registers: kRows vectors high, kColumns wide.
template <int kRows, int kColumns>
void subtract_block(Panel64 a, Panel64 b, std::int64_t inner, Panel64 c) {
  Pair sums[kColumns][kRows];
  for (int j = 0; j < kColumns; ++j)
    for (int i = 0; i < kRows; ++i) sums[j][i] = load(shifted(c, j * kPanelRows + i * kLanes));
  for (std::int64_t k = 0; k < inner; ++k, a = column_of(a, 1), b = column_of(b, 1)) {
    Pair left[kRows];
    for (int i = 0; i < kRows; ++i) left[i] = load(shifted(a, i * kLanes));
    for (int j = 0; j < kColumns; ++j) {
      const Pair right = all_lanes(b.high[j], b.low[j]);
      for (int i = 0; i < kRows; ++i) sums[j][i] = difference(sums[j][i], product(left[i], right));
    }
  }
  for (int j = 0; j < kColumns; ++j)
    for (int i = 0; i < kRows; ++i) store(shifted(c, j * kPanelRows + i * kLanes), sums[j][i]);
}

template <int kRows, int kColumns>
void subtract_columns(Panel64 a, Panel64 b, std::int64_t inner, Panel64 c) {
  for (std::int64_t i = 0; i < kPanelRows; i += kRows * kLanes)
    subtract_block<kRows, kColumns>(shifted(a, i), b, inner, shifted(c, i));
}

void subtract_product(Panel64 a, Panel64 b, std::int64_t inner, Panel64 c, std::int64_t num_columns) {
  constexpr int kColumns = 4, kRows = kLanes == 8 ? 2 : 1;
  std::int64_t j = 0;
  for (; j + kColumns <= num_columns; j += kColumns)
    subtract_columns<kRows, kColumns>(a, shifted(b, j), inner, column_of(c, j));
  for (; j < num_columns; ++j) subtract_columns<4, 1>(a, shifted(b, j), inner, column_of(c, j));
}

void scale_column(Panel64 column, double high, double low) {
  const Pair factor = all_lanes(high, low);
  for (std::int64_t i = 0; i < kPanelRows; i += kLanes) {
    const Pair scaled = product(load(shifted(column, i)), factor);
    store(shifted(column, i), carried(scaled.high, scaled.low));
  }
}

bool factorize(Panel64 a, Panel64 inverses) {
  for (std::int64_t j = 0; j < kPanelRows; ++j) {
    const Panel64 column = column_of(a, j);
    subtract_product(a, shifted(a, j), j, column, 1);
    const double pivot = column.high[j], pivot_low = column.low[j];
    if (!(pivot > 0)) return false;
    // One step of Newton's method each from the float64 values of root and inverse.
    const double root = __builtin_sqrt(pivot);
    const double root_low = (__builtin_fma(-root, root, pivot) + pivot_low) / (2 * root);
    const double inverse = 1 / root;
    const double inverse_low = inverse * (__builtin_fma(-inverse, root, 1) - inverse * root_low);
    inverses.high[j] = inverse;
    inverses.low[j] = inverse_low;
    scale_column(column, inverse, inverse_low);
    column.high[j] = root + root_low;
    column.low[j] = root_low - (column.high[j] - root);
    for (std::int64_t i = 0; i < j; ++i) column.high[i] = column.low[i] = 0;
  }
  return true;
}

void solve(Panel64 lower, Panel64 inverses, Panel64 b) {
  for (std::int64_t j = 0; j < kPanelRows; ++j) {
    subtract_product(b, shifted(lower, j), j, column_of(b, j), 1);
    scale_column(column_of(b, j), inverses.high[j], inverses.low[j]);
  }
}

void add_scaled(double scale, const double* factors, std::int64_t count, double* high, double* low) {
  const auto add_one = [&](auto term, auto before, auto& sum, auto& error) {
    sum = before + term;
    const auto part = sum - before;
    error = (before - (sum - part)) + (term - part);
  };
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    Lanes sum, error;
    add_one(load(factors + i) * scale, load(high + i), sum, error);
    store(high + i, sum);
    store(low + i, load(low + i) + error);
  }
  for (; i < count; ++i) {
    double sum, error;
    add_one(factors[i] * scale, high[i], sum, error);
    high[i] = sum;
    low[i] += error;
  }
}

}  // namespace

extern const DoubleDoubleKernel SPECTRACE_KERNEL;
const DoubleDoubleKernel SPECTRACE_KERNEL = {subtract_product, factorize, solve, add_scaled};

}  // namespace spectrace
