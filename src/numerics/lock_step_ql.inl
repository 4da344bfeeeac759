// A part of symmetric_kernels.inl, which has the vectors: eigenvalues of tridiagonal matrices.

namespace spectrace {
namespace {

constexpr int kMostGroups = 4;  // so many vectors in lock step hide how long a division takes

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

}  // namespace
}  // namespace spectrace
