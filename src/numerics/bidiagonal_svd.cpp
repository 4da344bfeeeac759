#include "bidiagonal_svd.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <utility>

namespace spectrace {
namespace {

constexpr double kEps = 0x1p-53;
constexpr double kTolerance = 100 * kEps;
constexpr double kTolerance2 = kTolerance * kTolerance;  // of squares
constexpr double kTiny = std::numeric_limits<double>::min();
constexpr double kFlipBias = 1.5;       // an array graded the wrong way by more than this is turned round
constexpr int kIterationsAValue = 100;  // three to four are usual
constexpr double kUnsplit = -1;

/// q and e of L U, with L unit lower bidiagonal (subdiagonal e) and U upper bidiagonal (diagonal q, superdiagonal 1).
struct QdArray {
  std::vector<double> q, e;

  void reverse(std::int64_t first, std::int64_t last) {
    std::reverse(q.begin() + first, q.begin() + last + 1);
    std::reverse(e.begin() + first, e.begin() + last);
  }
};

/// What a transform saw of d, the running shifted pivot: its last values and its minima up to them.
struct Pivots {
  double last = 0, before_last = 0, third_last = 0;
  double min = 0, min_before_last = 0, min_third_last = 0;  // the latter two without the last, the last two
};

/// The eigenvalues of a 2 x 2 qd array, the larger first, each to full relative accuracy.
std::pair<double, double> eigenvalues_of_pair(double q1, double e, double q2) {
  if (q2 > q1) std::swap(q1, q2);
  if (e <= q2 * kTolerance2) return {q1, q2};
  const double t = 0.5 * ((q1 - q2) + e);
  double s = q2 * (e / t);
  s = s <= t ? q2 * (e / (t * (1 + std::sqrt(1 + s / t)))) : q2 * (e / (t + std::sqrt(t) * std::sqrt(t + s)));
  const double larger = q1 + (s + e);
  return {larger, q2 * (q1 / larger)};
}

class Dqds {
 public:
  explicit Dqds(const Bidiagonal& matrix, double scale) : size_(std::ssize(matrix.diagonal)) {
    for (const double x : matrix.diagonal) now_.q.push_back(scale * x * (scale * x));
    for (const double x : matrix.superdiagonal) now_.e.push_back(scale * x * (scale * x));
    now_.e.push_back(0);
    next_ = now_;
    split_shift_.assign(static_cast<std::size_t>(size_), kUnsplit);
    eigenvalues_.assign(static_cast<std::size_t>(size_), 0.0);
  }

  /// The eigenvalues in no order, or nothing.
  std::optional<std::vector<double>> solve() {
    if (kFlipBias * q(0) < q(size_ - 1)) now_.reverse(0, size_ - 1);
    split_at_start();
    last_ = size_ - 1;
    while (last_ >= 0) {
      begin_segment();
      const std::int64_t budget = kIterationsAValue * (last_ - first_ + 1);
      for (std::int64_t i = 0; i < budget && last_ >= first_; ++i) {
        iterate();
        if (!is_swapped_ && last_ - first_ >= 3) split();
      }
      if (last_ >= first_) return std::nullopt;
    }
    return std::move(eigenvalues_);
  }

 private:
  double& q(std::int64_t i) { return now_.q[static_cast<std::size_t>(i)]; }
  double& e(std::int64_t i) { return now_.e[static_cast<std::size_t>(i)]; }
  double& split_shift(std::int64_t i) { return split_shift_[static_cast<std::size_t>(i)]; }
  /// e(i) before the last transform: e(i) <= tol^2 q(i) of q after it means that the two sides do not feel each other.
  bool is_split_by_last_transform(std::int64_t i) const {
    const auto k = static_cast<std::size_t>(i);
    return has_previous_ && next_.e[k] <= kTolerance2 * now_.q[k];
  }

  /// Two transforms without shift, and Li's test for entries that can be dropped, upwards and downwards.
  void split_at_start() {
    for (int pass = 0; pass < 2; ++pass) {
      double d = q(size_ - 1);
      for (std::int64_t i = size_ - 2; i >= 0; --i) {
        if (e(i) <= kTolerance2 * d) {
          split_shift(i) = 0;
          e(i) = 0;
          d = q(i);
        } else {
          d = q(i) * (d / (d + e(i)));
        }
      }
      d = q(0);
      for (std::int64_t i = 0; i + 1 < size_; ++i) {
        if (e(i) <= kTolerance2 * d) {
          split_shift(i) = 0;
          q(i) = d;
          e(i) = 0;
          d = q(i + 1);
          continue;
        }
        const double sum = d + e(i);
        const bool is_safe = kTiny * q(i + 1) < sum && kTiny * sum < q(i + 1);
        const double e_next = is_safe ? e(i) * (q(i + 1) / sum) : q(i + 1) * (e(i) / sum);
        d = is_safe ? d * (q(i + 1) / sum) : q(i + 1) * (d / sum);
        q(i) = sum;
        e(i) = e_next;
      }
      q(size_ - 1) = d;
    }
  }

  /// The last part of the array that nothing splits, with the first shift in pivots_.min, negated.
  void begin_segment() {
    if (is_swapped_) swap_arrays();
    shift_ = last_ == size_ - 1 ? 0 : split_shift(last_);
    shift_rest_ = 0;
    first_ = last_;
    double q_min = q(last_), e_max = 0;
    while (first_ > 0 && split_shift(first_ - 1) == kUnsplit) {
      --first_;
      if (q_min >= 4 * e_max) {  // Gershgorin's bound is worth something as long as the q are much larger than the e
        e_max = std::max(e_max, e(first_));
        q_min = std::min(q_min, q(first_ + 1));
      }
    }
    has_previous_ = false;
    turn_if_small_end_is_first();
    pivots_ = Pivots();
    pivots_.min = -std::max(0.0, q_min - 2 * std::sqrt(q_min) * std::sqrt(e_max));
    num_deflated_ = 0;
    guess_ = 0;
    last_was_guess_ = early_failure_after_guess_ = false;
  }

  /// Parts that were split off lie in the array that was now_ after an even number of transforms: split() is called
  /// then only, and a segment begins with it.
  void swap_arrays() {
    std::swap(now_, next_);
    is_swapped_ = !is_swapped_;
  }

  void turn_if_small_end_is_first() {
    if (last_ - first_ <= 1) return;
    double d = q(first_), smallest = d;
    std::int64_t where = first_;
    for (std::int64_t i = first_ + 1; i <= last_; ++i) {
      d = q(i) * (d / (d + e(i - 1)));
      if (d <= smallest) {
        smallest = d;
        where = i;
      }
    }
    if (2 * (where - first_) < last_ - where && smallest <= 0.5 * q(last_)) now_.reverse(first_, last_);
  }

  /// Takes off what has converged at the end, chooses a shift and makes one transform.
  void iterate() {
    const std::int64_t last_before = last_;
    deflate();
    if (last_ < first_) return;
    num_deflated_ = last_before - last_;
    if ((pivots_.min <= 0 || num_deflated_ > 0) && kFlipBias * q(first_) < q(last_)) {
      now_.reverse(first_, last_);
      has_previous_ = false;
      pivots_.min = 0;
    }
    transform_with(choose_shift());
  }

  void deflate() {
    while (last_ >= first_) {
      const std::int64_t n = last_;
      if (n == first_ || e(n - 1) <= kTolerance2 * (shift_ + q(n)) ||
          (has_previous_ && next_e(n - 1) <= kTolerance2 * q(n - 1))) {
        eigenvalues_[static_cast<std::size_t>(n)] = q(n) + shift_;
        last_ = n - 1;
      } else if (n == first_ + 1 || e(n - 2) <= kTolerance2 * shift_ || is_split_by_last_transform(n - 2)) {
        const auto [larger, smaller] = eigenvalues_of_pair(q(n - 1), e(n - 1), q(n));
        eigenvalues_[static_cast<std::size_t>(n - 1)] = larger + shift_;
        eigenvalues_[static_cast<std::size_t>(n)] = smaller + shift_;
        last_ = n - 2;
      } else {
        return;
      }
    }
  }
  double next_e(std::int64_t i) const { return next_.e[static_cast<std::size_t>(i)]; }

  void split() {
    std::int64_t new_first = first_;
    for (std::int64_t i = first_; i + 3 <= last_; ++i) {
      if (!is_split_by_last_transform(i) && e(i) > kTolerance2 * shift_) continue;
      split_shift(i) = shift_;
      e(i) = 0;
      new_first = i + 1;
    }
    first_ = new_first;
  }

  /// Transforms until the result is positive, with smaller and smaller shifts.
  void transform_with(double shift) {
    early_failure_after_guess_ = false;
    for (int num_failures = 0;; ++num_failures) {
      if (shift < 0.5 * kEps * (shift_ + shift)) shift = 0;
      const Pivots p = transform(shift);
      const bool is_number = p.last == p.last && p.min == p.min;
      // Where nothing was shifted, a zero may be a quotient that underflows.
      const bool is_shifted = shift > 0 || shift_ > 0;
      if (is_number && p.min_before_last > 0 && (p.min > 0 || (p.min == 0 && is_shifted))) {
        pivots_ = p;
        break;
      }
      if (is_number && p.min < 0 && p.min_before_last > 0 &&
          next_e(last_ - 1) < kTolerance * (shift_ + p.before_last) && std::abs(p.last) < kTolerance * shift_) {
        next_.q[static_cast<std::size_t>(last_)] = 0;  // converged, to a number that roundings make negative
        pivots_ = p;
        pivots_.min = 0;
        break;
      }
      if (shift == 0) {  // division by zero, or an underflow
        pivots_ = transform_carefully();
        break;
      }
      if (!is_number || num_failures >= 2) {
        shift = 0;
      } else if (p.min_before_last > 0) {
        shift = (shift + p.min) * (1 - 2 * kEps);  // it failed at the very end: that is an excellent shift
      } else {
        early_failure_after_guess_ = last_was_guess_;
        shift *= 0.25;
      }
    }
    swap_arrays();
    has_previous_ = true;
    add_to_shift(shift);
  }

  /// shift_ + shift_rest_ is the sum of all shifts, in twice the precision.
  void add_to_shift(double by) {
    double sum;
    if (by < shift_) {
      shift_rest_ += by;
      sum = shift_ + shift_rest_;
      shift_rest_ -= sum - shift_;
    } else {
      sum = shift_ + by;
      shift_rest_ += shift_ - (sum - by);
    }
    shift_ = sum;
  }

  /// The transform: next_ is the qd array of now_'s matrix less shift.
  Pivots transform(double shift) {
    const double* const q_now = now_.q.data();
    const double* const e_now = now_.e.data();
    double* const q_next = next_.q.data();
    double* const e_next = next_.e.data();
    const double negligible = shift == 0 ? kEps * shift_ : -std::numeric_limits<double>::infinity();
    double d = q_now[first_] - shift, smallest = d;
    const auto run = [&](std::int64_t from, std::int64_t to) {
      for (std::int64_t i = from; i < to; ++i) {
        const double sum = d + e_now[i];
        const double ratio = q_now[i + 1] / sum;
        d = d * ratio - shift;
        if (d < negligible) d = 0;
        smallest = d < smallest ? d : smallest;
        q_next[i] = sum;
        e_next[i] = e_now[i] * ratio;
      }
    };
    Pivots p;  // the segment has three entries at least
    run(first_, last_ - 2);
    p.third_last = d;
    p.min_third_last = smallest;
    run(last_ - 2, last_ - 1);
    p.before_last = d;
    p.min_before_last = smallest;
    run(last_ - 1, last_);
    p.last = d;
    p.min = smallest;
    q_next[last_] = d;
    e_next[last_] = 0;
    return p;
  }

  /// The same without a shift and without division by zero, overflow or needless underflow.
  Pivots transform_carefully() {
    double d = q(first_), smallest = d;
    Pivots p;
    for (std::int64_t i = first_; i < last_; ++i) {
      const double sum = d + e(i), following = q(i + 1);
      double e_result = 0;
      if (sum == 0) {
        d = following;
        smallest = d;
      } else if (kTiny * following < sum && kTiny * sum < following) {
        e_result = e(i) * (following / sum);
        d *= following / sum;
      } else {
        e_result = following * (e(i) / sum);
        d = following * (d / sum);
      }
      smallest = std::min(smallest, d);
      next_.q[static_cast<std::size_t>(i)] = sum;
      next_.e[static_cast<std::size_t>(i)] = e_result;
      if (i == last_ - 3) p.third_last = d, p.min_third_last = smallest;
      if (i == last_ - 2) p.before_last = d, p.min_before_last = smallest;
    }
    if (last_ - first_ == 2) p.third_last = p.min_third_last = q(first_);
    p.last = d;
    p.min = smallest;
    next_.q[static_cast<std::size_t>(last_)] = d;
    next_.e[static_cast<std::size_t>(last_)] = 0;
    return p;
  }

  double choose_shift();
  double shift_near_end();
  double shift_after_one();
  double shift_after_two();
  std::optional<double> norm_above(std::int64_t from, double ratio, double sum, double enough);

  std::int64_t size_;
  QdArray now_, next_;               // next_ holds what now_ was before the last transform, while has_previous_
  std::vector<double> split_shift_;  // of i: the shift at which the array was split after i, or kUnsplit
  std::vector<double> eigenvalues_;
  std::int64_t first_ = 0, last_ = 0;  // the segment under work
  double shift_ = 0, shift_rest_ = 0;  // taken off it so far
  Pivots pivots_;                      // of the last transform
  bool has_previous_ = false, is_swapped_ = false;
  std::int64_t num_deflated_ = 0;
  double guess_ = 0;
  bool last_was_guess_ = false, early_failure_after_guess_ = false;
};

constexpr double kEnough = 0.563;  // where the square of a norm passes 9/16 its bound is worth nothing
constexpr double kSafety = 1.05;

/// Adds up the squared entries of an approximate eigenvector, from entry `from` upwards, ratio by ratio, until they no
/// longer matter. Nothing if they grow.
std::optional<double> Dqds::norm_above(std::int64_t from, double ratio, double sum, double enough) {
  for (std::int64_t i = from; i >= first_ && ratio != 0; --i) {
    const double before = ratio;
    if (e(i) > q(i)) return std::nullopt;
    ratio *= e(i) / q(i);
    sum += ratio;
    if (100 * std::max(ratio, before) < sum || enough < sum) break;
  }
  return sum;
}

/// A number that is likely to be just below the smallest eigenvalue.
double Dqds::choose_shift() {
  const bool was_guess = std::exchange(last_was_guess_, false);
  const Pivots& p = pivots_;
  if (p.min <= 0) return -p.min;
  if (num_deflated_ == 1) return shift_after_one();
  if (num_deflated_ == 2) return shift_after_two();
  if (num_deflated_ > 2) return 0;
  if (p.min == p.last || p.min == p.before_last || p.min == p.third_last) return shift_near_end();
  // The minimum is somewhere else, and says nothing: a growing share of it.
  last_was_guess_ = true;
  if (was_guess && early_failure_after_guess_) {
    guess_ = 1.0 / 12;
  } else if (was_guess) {
    guess_ += (1 - guess_) / 3;
  } else {
    guess_ = 0.25;
  }
  return guess_ * p.min;
}

/// Nothing was deflated, and the smallest pivot is among the last three.
double Dqds::shift_near_end() {
  const Pivots& p = pivots_;
  const std::int64_t n = last_;
  if (p.min == p.last && p.min_before_last == p.before_last) {
    // The last two rows look as they will in the end: bounds by Gershgorin and from the gap.
    const double b1 = std::sqrt(q(n)) * std::sqrt(e(n - 1)), b2 = std::sqrt(q(n - 1)) * std::sqrt(e(n - 2));
    const double a = q(n - 1) + e(n - 1);
    const double gap2 = p.min_third_last - a - 0.25 * p.min_third_last;
    const double gap1 = gap2 > 0 && gap2 > b2 ? a - p.last - (b2 / gap2) * b2 : a - p.last - (b1 + b2);
    if (gap1 > 0 && gap1 > b1) return std::max(p.last - (b1 / gap1) * b1, 0.5 * p.min);
    double shift = p.last > b1 ? p.last - b1 : 0;
    if (a > b1 + b2) shift = std::min(shift, a - (b1 + b2));
    return std::max(shift, p.min / 3);
  }
  // The residual of a Rayleigh quotient bounds how far below the pivot an eigenvalue can be.
  const double fallback = 0.25 * p.min;
  std::optional<double> norm;
  double pivot;
  if (p.min == p.last) {
    pivot = p.last;
    if (e(n - 1) > q(n - 1)) return fallback;
    const double ratio = e(n - 1) / q(n - 1);
    norm = norm_above(n - 2, ratio, ratio, kEnough);
  } else if (p.min == p.before_last) {
    pivot = p.before_last;
    if (!has_previous_) return fallback;
    const double q_before = next_.q[static_cast<std::size_t>(n)];
    if (next_e(n - 1) > q_before || e(n - 2) > q(n - 2)) return fallback;
    const double ratio = e(n - 2) / q(n - 2);
    norm = norm_above(n - 3, ratio, next_e(n - 1) / q_before + ratio, kEnough);
  } else {
    pivot = p.third_last;
    if (!has_previous_) return fallback;
    const double q1 = next_.q[static_cast<std::size_t>(n)], q2 = next_.q[static_cast<std::size_t>(n - 1)];
    if (next_e(n - 2) > q2 || next_e(n - 1) > q1) return fallback;
    const double sum = next_e(n - 2) / q2 * (1 + next_e(n - 1) / q1);
    if (n - first_ > 2) {
      const double ratio = e(n - 3) / q(n - 3);
      norm = norm_above(n - 4, ratio, sum + ratio, kEnough);
    } else {
      norm = sum;
    }
  }
  if (!norm || kSafety * *norm >= kEnough) return fallback;
  const double a = kSafety * *norm;
  return pivot * (1 - std::sqrt(a)) / (1 + a);
}

/// One eigenvalue was deflated: what was the last but one pivot is the last.
double Dqds::shift_after_one() {
  const Pivots& p = pivots_;
  const std::int64_t n = last_;
  if (p.min_before_last != p.before_last || p.min_third_last != p.third_last)
    return p.min_before_last == p.before_last ? 0.5 * p.min_before_last : 0.25 * p.min_before_last;
  const double least = p.min_before_last / 3;
  if (e(n - 1) > q(n - 1)) return least;
  const double ratio = e(n - 1) / q(n - 1);
  const auto sum = norm_above(n - 2, ratio, ratio, std::numeric_limits<double>::infinity());
  if (!sum) return least;
  const double norm = std::sqrt(kSafety * *sum);
  const double a = p.min_before_last / (1 + norm * norm);
  const double gap = 0.5 * p.min_third_last - a;
  if (gap > 0 && gap > norm * a) return std::max(least, a * (1 - 1.01 * a * (norm / gap) * norm));
  return std::max(least, a * (1 - 1.01 * norm));
}

double Dqds::shift_after_two() {
  const Pivots& p = pivots_;
  const std::int64_t n = last_;
  if (p.min_third_last != p.third_last || 2 * e(n - 1) >= q(n - 1)) return 0.25 * p.min_third_last;
  const double least = p.min_third_last / 3;
  const double ratio = e(n - 1) / q(n - 1);
  const auto sum = norm_above(n - 2, ratio, ratio, std::numeric_limits<double>::infinity());
  if (!sum) return least;
  const double norm = std::sqrt(kSafety * *sum);
  const double a = p.min_third_last / (1 + norm * norm);
  const double gap = q(n - 1) + e(n - 2) - std::sqrt(q(n - 2)) * std::sqrt(e(n - 2)) - a;
  if (gap > 0 && gap > norm * a) return std::max(least, a * (1 - 1.01 * a * (norm / gap) * norm));
  return std::max(least, a * (1 - 1.01 * norm));
}

}  // namespace

std::vector<double> bidiagonal_singular_values(const Bidiagonal& matrix) {
  double largest = 0;
  for (const double x : matrix.diagonal) largest = std::max(largest, std::abs(x));
  for (const double x : matrix.superdiagonal) largest = std::max(largest, std::abs(x));
  if (largest == 0) return std::vector<double>(matrix.diagonal.size(), 0.0);
  // As large as squares and sums of them allow: the small ones then keep their digits for 1e-300 of the largest.
  const int exponent = 500 - std::ilogb(largest);
  auto squares = Dqds(matrix, std::ldexp(1.0, std::clamp(exponent, -1000, 1000))).solve();
  if (!squares) return {};
  std::vector<double> values = std::move(*squares);
  for (double& value : values) value = std::ldexp(std::sqrt(value), -std::clamp(exponent, -1000, 1000));
  std::sort(values.begin(), values.end(), std::greater<>());
  return values;
}

}  // namespace spectrace
