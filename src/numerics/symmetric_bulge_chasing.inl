// A part of symmetric_kernels.inl, which has the vectors: a band becomes tridiagonal, the second of two stages.

namespace spectrace {
namespace {

typedef double UnalignedLanes __attribute__((vector_size(kLanes * sizeof(double)), aligned(sizeof(double)), may_alias));
inline Lanes load_anywhere(const double* from) { return *reinterpret_cast<const UnalignedLanes*>(from); }
inline void store_anywhere(double* to, Lanes lanes) { *reinterpret_cast<UnalignedLanes*>(to) = lanes; }

/// Adds lanes that lie kSize apart of each two vectors, which become one. Written out: constants for every shuffle.
template <int kSize, int... kLane, int... kPlace>
inline void add_halves(Lanes (&x)[kLanes], std::integer_sequence<int, kLane...>,
                       std::integer_sequence<int, kPlace...>) {
  const Mask lower = {(kLane & kSize ? kLanes + kLane - kSize : kLane)...};
  const Mask upper = {(kLane & kSize ? kLanes + kLane : kLane + kSize)...};
  ((x[kPlace] = __builtin_shuffle(x[2 * kPlace], x[2 * kPlace + 1], lower) +
                __builtin_shuffle(x[2 * kPlace], x[2 * kPlace + 1], upper)),
   ...);
}

/// The sum over the lanes of each of as many vectors as there are lanes.
template <int kSize = 1>
inline Lanes sums_of(Lanes (&x)[kLanes]) {
  if constexpr (kSize < kLanes) {
    add_halves<kSize>(x, std::make_integer_sequence<int, kLanes>(),
                      std::make_integer_sequence<int, kLanes / (2 * kSize)>());
    return sums_of<2 * kSize>(x);
  } else {
    return x[0];
  }
}

/// Takes a symmetric band matrix to tridiagonal form by reflectors as long as the band is wide, which chase what a
/// column's elimination fills in down the band (Bischof, Lang, Sun, ACM Trans. Math. Softw. 26, 2000).
class SymmetricChase {
 public:
  SymmetricChase(double* band, std::int64_t n) : band_(band), n_(n) {}

  void run() {
    // A step needs the next one of the sweep before, so sweeps follow each other two steps apart.
    for (std::int64_t first = 0; first + 2 < n_; first += kSweepsTogether) {
      const std::int64_t num_steps = (n_ - first) / kBandwidth + 1 + 2 * kSweepsTogether;
      for (std::int64_t time = 0; time < num_steps; ++time)
        for (std::int64_t i = 0; i < kSweepsTogether && 2 * i <= time; ++i)
          step(first + i, time - 2 * i, reflectors_[i]);
    }
  }

 private:
  static constexpr int kSweepsTogether = 4;  // what they touch at one time stays in the first-level cache
  static constexpr int kVectors = kBandwidth / kLanes;

  /// As many numbers as a reflector is long.
  struct Column {
    Lanes x[kVectors] = {};

    static Column of(const double* from) {
      Column column;
      for (int i = 0; i < kVectors; ++i) column.x[i] = load_anywhere(from + i * kLanes);
      return column;
    }
    void put(double* to) const {
      for (int i = 0; i < kVectors; ++i) store_anywhere(to + i * kLanes, x[i]);
    }
    Column with_first(double value) const {
      Mask is_first = {};
      is_first[0] = -1;
      Column result = *this;
      result.x[0] = choose(is_first, all(value), x[0]);
      return result;
    }
  };

  /// H = I - scale v v^T with v[0] = 1.
  struct Reflector {
    alignas(64) double v[kBandwidth];
    double scale, image;  // H x = (image, 0, ...)

    void make(const Column& x) {
      const Column rest = x.with_first(0);
      Lanes squares = {};
      for (int i = 0; i < kVectors; ++i) squares = add_product(squares, rest.x[i], rest.x[i]);
      const double first = x.x[0][0], square = sum(squares);
      Column own;
      image = first;
      scale = 0;
      if (!(square < 1e-280)) {  // as in the other stage
        const double norm = __builtin_sqrt(first * first + square);
        image = first > 0 ? -norm : norm;
        scale = (image - first) / image;
        const Lanes factor = all(1 / (first - image));
        for (int i = 0; i < kVectors; ++i) own.x[i] = x.x[i] * factor;
      }
      own = own.with_first(1);
      for (int i = 0; i < kVectors; ++i) store(v + i * kLanes, own.x[i]);
    }
    Column column() const {
      Column own;
      for (int i = 0; i < kVectors; ++i) own.x[i] = load(v + i * kLanes);
      return own;
    }
  };

  double* at(std::int64_t i, std::int64_t j) const { return band_ + i + kBandStride * j; }

  /// Applies the sweep's reflector to the block of the diagonal from both sides and to the one below it from the right,
  /// makes the next one, which takes that block's first column out, and applies it to the others from the left. The
  /// next one takes long to come (a root, a division): the block of the diagonal is changed meanwhile.
  void step(std::int64_t sweep, std::int64_t index, Reflector& of_sweep) const {
    const std::int64_t first = sweep + 1 + index * kBandwidth;
    if (first >= n_) return;
    if (index == 0) {
      double* const column = at(first, sweep);
      of_sweep.make(Column::of(column));
      Column().with_first(of_sweep.image).put(column);
    }
    const Reflector h = of_sweep;
    double *const diagonal = at(first, first), *const below = diagonal + kBandwidth;
    Column on_diagonal, on_below;
    multiply(diagonal, h, on_diagonal);
    multiply(below, h, on_below);
    Column column = Column::of(below);
    for (int i = 0; i < kVectors; ++i) column.x[i] -= on_below.x[i];  // v[0] = 1
    of_sweep.make(column);
    apply_from_both_sides(diagonal, h, on_diagonal);
    apply_to_block_below(below, h, on_below, of_sweep);
    // The next sweep's block of the diagonal has a column more, of which this is above the diagonal.
    for (int i = 1; i < kBandwidth; ++i) below[kBandwidth * kBandStride - kBandwidth + i] = below[i * kBandStride];
  }

  /// w = scale A v
  static void multiply(const double* a, const Reflector& h, Column& w) {
    Column odd;
    for (int c = 0; c < kBandwidth; c += 2)
      for (int i = 0; i < kVectors; ++i) {
        w.x[i] = add_product(w.x[i], load_anywhere(a + c * kBandStride + i * kLanes), all(h.v[c]));
        odd.x[i] = add_product(odd.x[i], load_anywhere(a + (c + 1) * kBandStride + i * kLanes), all(h.v[c + 1]));
      }
    for (int i = 0; i < kVectors; ++i) w.x[i] = (w.x[i] + odd.x[i]) * all(h.scale);
  }

  /// H A H = A - v w^T - w v^T, whose rounding is symmetric; w comes as scale A v.
  static void apply_from_both_sides(double* a, const Reflector& h, Column w) {
    const Column v = h.column();
    Lanes products = {};
    for (int i = 0; i < kVectors; ++i) products = add_product(products, v.x[i], w.x[i]);
    const Lanes half = all(0.5 * h.scale * sum(products));
    alignas(64) double factors[kBandwidth];
    for (int i = 0; i < kVectors; ++i) {
      w.x[i] = subtract_product(w.x[i], half, v.x[i]);
      store(factors + i * kLanes, w.x[i]);
    }
    for (int c = 0; c < kBandwidth; ++c)
      for (int i = 0; i < kVectors; ++i) {
        double* const place = a + c * kBandStride + i * kLanes;
        store_anywhere(place, load_anywhere(place) - (v.x[i] * all(factors[c]) + w.x[i] * all(h.v[c])));
      }
  }

  /// A - w v^T of the reflector before, then the next one from the left.
  static void apply_to_block_below(double* a, const Reflector& before, const Column& w, const Reflector& next) {
    const Column v = next.column();
    for (int first = 0; first < kBandwidth; first += kLanes) {
      Lanes columns[kLanes][kVectors], products[kLanes];
      alignas(64) double factors[kLanes];
#pragma GCC unroll 8
      for (int c = 0; c < kLanes; ++c) {
        products[c] = Lanes{};
        for (int i = 0; i < kVectors; ++i) {
          columns[c][i] = subtract_product(load_anywhere(a + (first + c) * kBandStride + i * kLanes), w.x[i],
                                           all(before.v[first + c]));
          products[c] = add_product(products[c], columns[c][i], v.x[i]);
        }
      }
      store(factors, sums_of(products) * all(next.scale));
#pragma GCC unroll 8
      for (int c = 0; c < kLanes; ++c)
        for (int i = 0; i < kVectors; ++i)
          store_anywhere(a + (first + c) * kBandStride + i * kLanes,
                         subtract_product(columns[c][i], v.x[i], all(factors[c])));
    }
    Column().with_first(next.image).put(a);
  }

  double* const band_;
  const std::int64_t n_;
  Reflector reflectors_[kSweepsTogether];
};

}  // namespace
}  // namespace spectrace
