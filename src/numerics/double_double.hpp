#pragma once

namespace spectrace {

/// A number as the unevaluated sum high + low, |low| <= u |high|: about 106 bits.
struct DoubleDouble {
  double high = 0.0, low = 0.0;
};

/// a + b without error: high = fl(a + b), low what that rounding took (Knuth's TwoSum).
inline DoubleDouble two_sum(double a, double b) {
  const double sum = a + b, b_part = sum - a;
  return {sum, (a - (sum - b_part)) + (b - b_part)};
}

/// a + b, off by at most 4 u^2 (|a| + |b|): relative to the terms, not to a sum that cancels.
inline DoubleDouble operator+(DoubleDouble a, DoubleDouble b) {
  const DoubleDouble sum = two_sum(a.high, b.high);
  return two_sum(sum.high, sum.low + (a.low + b.low));
}

}  // namespace spectrace
