// A part of symmetric_kernels.inl, which has the vectors: Householder reflectors.

namespace spectrace {
namespace {

/// A step takes A to H A H = A - v w^T - w v^T, and the next one needs A x of that: both are one pass over it.
class Tridiagonalization {
 public:
  Tridiagonalization(double* strips, std::int64_t n, std::int64_t padded_rows, double* work)
      : strips_(strips), n_(n), rows_(padded_rows), v_(work), w_(v_ + rows_), x_(w_ + rows_), y_(x_ + rows_) {}

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

  /// x = column k of A - v w^T - w v^T, from row k on.
  void take_column(std::int64_t k) {
    const std::int64_t strip = k / kColumns, begin = first_row(strip);
    const double* from = strip_at(strip) + (k - strip * kColumns) * kBlockRows;
    for (std::int64_t i = begin; i < rows_; i += kBlockRows, from += kBlockSize)
      for (int j = 0; j < kBlockVectors; ++j) store(x_ + i + j * kLanes, load(from + j * kLanes));
    if (!has_pair_) return;
    const Lanes vk = all(v_[k]), wk = all(w_[k]);
    for (std::int64_t i = begin; i < rows_; i += kLanes)
      store(x_ + i, subtract_product(subtract_product(load(x_ + i), load(v_ + i), wk), load(w_ + i), vk));
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

  /// y = A x after A -= v w^T + w v^T, of rows and columns from `first` on. Earlier ones change and have no use any
  /// more.
  void multiply(std::int64_t first) {
    const std::int64_t begin = first / kColumns;
    for (std::int64_t i = first_row(begin); i < rows_; ++i) y_[i] = 0;
    has_pair_ ? multiply_strips<true>(begin) : multiply_strips<false>(begin);
  }

  template <bool kHasPair>
  void multiply_strips(std::int64_t begin) {
    double* place = strip_at(begin);
    for (std::int64_t strip = begin; strip * kColumns < n_; ++strip) place = multiply_strip<kHasPair>(strip, place);
  }

  /// A strip's part of that. Returns the next strip.
  template <bool kHasPair>
  double* multiply_strip(std::int64_t strip, double* a) {
    const std::int64_t column = strip * kColumns, begin = first_row(strip);
    Lanes xc[kColumns], sums[kColumns] = {};
    for (int c = 0; c < kColumns; ++c) xc[c] = all(x_[column + c]);
    // The block of the diagonal is there whole.
    multiply_block<kHasPair>(a, begin, column, xc, nullptr);
    a += kBlockSize;
    for (std::int64_t i = begin + kBlockRows; i < rows_; i += kBlockRows, a += kBlockSize)
      multiply_block<kHasPair>(a, i, column, xc, sums);
    for (int c = 0; c < kColumns; ++c) y_[column + c] += sum(sums[c]);
    return a;
  }

  /// Of a block the product with x, and below the diagonal (`sums`) that of its transpose with x.
  template <bool kHasPair>
  inline void multiply_block(double* a, std::int64_t first_row, std::int64_t column, const Lanes (&xc)[kColumns],
                             Lanes* sums) {
    for (int j = 0; j < kBlockVectors; ++j) {
      const std::int64_t row = first_row + j * kLanes;
      Lanes entries[kColumns];
      for (int c = 0; c < kColumns; ++c) entries[c] = load(a + c * kBlockRows + j * kLanes);
      if constexpr (kHasPair) {
        const Lanes vr = load(v_ + row), wr = load(w_ + row);
        for (int c = 0; c < kColumns; ++c)
          entries[c] = subtract_product(subtract_product(entries[c], vr, all(w_[column + c])), wr, all(v_[column + c]));
      }
      Lanes y = load(y_ + row);
      for (int c = 0; c < kColumns; ++c) {
        if constexpr (kHasPair) store(a + c * kBlockRows + j * kLanes, entries[c]);
        y = add_product(y, entries[c], xc[c]);
      }
      store(y_ + row, y);
      if (sums == nullptr) continue;
      const Lanes x = load(x_ + row);
      for (int c = 0; c < kColumns; ++c) sums[c] = add_product(sums[c], entries[c], x);
    }
  }

  /// The next pair v = x and w = scale (y - scale/2 (x . y) x): A - v w^T - w v^T is H A H.
  void finish(std::int64_t k, double scale) {
    const std::int64_t begin = (k + 1) / kLanes * kLanes;
    const Lanes half = all(scale / 2 * dot(x_, y_, begin, rows_)), factor = all(scale);
    for (std::int64_t i = first_row(k / kColumns); i < begin; ++i) v_[i] = w_[i] = 0;
    for (std::int64_t i = begin; i < rows_; i += kLanes) {
      const Lanes x = load(x_ + i);
      store(w_ + i, factor * subtract_product(load(y_ + i), half, x));
      store(v_ + i, x);
    }
    has_pair_ = true;
  }

  double* const strips_;
  const std::int64_t n_, rows_;
  bool has_pair_ = false;  // v, w, which are not taken off yet
  double *const v_, *const w_, *const x_, *const y_;
};

}  // namespace
}  // namespace spectrace
