// Included by one file for each kind of vector instructions, which defines SPECTRACE_CHASE, the function's name, and
// SPECTRACE_LANES, how many float64 one vector holds.

#include "bulge_chasing_kernel.hpp"

namespace spectrace {
namespace {

constexpr int kLanes = SPECTRACE_LANES;
constexpr std::int64_t kSweepsTogether = 4;  // what they touch at one time stays in the second-level cache

typedef double Lanes __attribute__((vector_size(kLanes * sizeof(double))));
typedef double UnalignedLanes __attribute__((vector_size(kLanes * sizeof(double)), aligned(sizeof(double)), may_alias));
typedef double Four __attribute__((vector_size(4 * sizeof(double))));

inline Lanes load(const double* from) { return *reinterpret_cast<const UnalignedLanes*>(from); }
inline void store(double* to, Lanes lanes) { *reinterpret_cast<UnalignedLanes*>(to) = lanes; }

/// The sums over the lanes of four vectors.
#if SPECTRACE_LANES == 2
inline Four sums(Lanes a, Lanes b, Lanes c, Lanes d) {
  return Four{a[0] + a[1], b[0] + b[1], c[0] + c[1], d[0] + d[1]};
}
#else
#if SPECTRACE_LANES == 8
inline Four folded(Lanes x) {
  return __builtin_shufflevector(x, x, 0, 1, 2, 3) + __builtin_shufflevector(x, x, 4, 5, 6, 7);
}
#else
inline Four folded(Lanes x) { return x; }
#endif

inline Four sums(Lanes a, Lanes b, Lanes c, Lanes d) {
  const Four fa = folded(a), fb = folded(b), fc = folded(c), fd = folded(d);
  const Four ab = __builtin_shufflevector(fa, fb, 0, 4, 2, 6) + __builtin_shufflevector(fa, fb, 1, 5, 3, 7);
  const Four cd = __builtin_shufflevector(fc, fd, 0, 4, 2, 6) + __builtin_shufflevector(fc, fd, 1, 5, 3, 7);
  return __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
}
#endif

/// H = I - scale v v^T with v[0] = 1.
template <int B>
struct Reflector {
  double v[B];
  double scale;
  double image;  // H x = (image, 0, ...)

  /// Of x, which is in v: as LAPACK's dlarfg, without its care for underflow, since what is lost there is less than
  /// 1e-150 of the largest entry.
  void make() {
    double sum = 0;
    for (int i = 1; i < B; ++i) sum += v[i] * v[i];
    const double first = v[0];
    v[0] = 1;
    image = first;
    scale = 0;
    if (sum == 0) return;
    const double norm = __builtin_sqrt(first * first + sum);
    image = first > 0 ? -norm : norm;
    scale = (image - first) / image;
    const double factor = 1 / (first - image);
    for (int i = 1; i < B; ++i) v[i] *= factor;
  }
};

/// A H for a block of B rows.
template <int B>
void apply_from_right(double* a, std::int64_t stride, const Reflector<B>& h) {
  constexpr int kVectors = B / kLanes;
  Lanes w[kVectors] = {};
  for (int c = 0; c < B; ++c)
    for (int i = 0; i < kVectors; ++i) w[i] += load(a + c * stride + i * kLanes) * h.v[c];
  for (int i = 0; i < kVectors; ++i) w[i] *= h.scale;
  for (int c = 0; c < B; ++c)
    for (int i = 0; i < kVectors; ++i) {
      double* place = a + c * stride + i * kLanes;
      store(place, load(place) - w[i] * h.v[c]);
    }
}

/// H A for a block of 2 B columns.
template <int B>
void apply_from_left(double* a, std::int64_t stride, const Reflector<B>& h) {
  constexpr int kVectors = B / kLanes;
  Lanes v[kVectors];
  for (int i = 0; i < kVectors; ++i) v[i] = load(h.v + i * kLanes);
  for (int c = 0; c < 2 * B; c += 4) {
    double* column = a + c * stride;
    Lanes products[4] = {};
    for (int i = 0; i < kVectors; ++i)
      for (int k = 0; k < 4; ++k) products[k] += load(column + k * stride + i * kLanes) * v[i];
    const Four factors = sums(products[0], products[1], products[2], products[3]) * h.scale;
    for (int k = 0; k < 4; ++k)
      for (int i = 0; i < kVectors; ++i) {
        double* place = column + k * stride + i * kLanes;
        store(place, load(place) - v[i] * factors[k]);
      }
  }
}

template <int B>
class Chase {
 public:
  Chase(double* origin, std::int64_t size) : origin_(origin), size_(size) {}

  void run() {
    // Step j of a sweep needs step j + 2 of the sweep before, so sweeps follow each other two steps apart.
    for (std::int64_t first = 0; first + 1 < size_; first += kSweepsTogether) {
      const std::int64_t num_steps = (size_ - first) / B + 1 + 2 * kSweepsTogether;
      for (std::int64_t time = 0; time < num_steps; ++time)
        for (std::int64_t i = 0; i < kSweepsTogether && 2 * i <= time; ++i) step(first + i, time - 2 * i);
    }
  }

 private:
  static constexpr std::int64_t kStride = 3 * B;

  double* at(std::int64_t row, std::int64_t column) const { return origin_ + row + kStride * column; }

  /// Takes what is too much out of a row by a reflector from the right, and what that brings below the diagonal out of
  /// its first column by one from the left. Both act on B columns or rows from `first` on.
  void step(std::int64_t sweep, std::int64_t index) const {
    const std::int64_t first = sweep + 1 + index * B;
    if (first >= size_) return;
    const std::int64_t row = index == 0 ? sweep : first - B;

    Reflector<B> h;
    for (int i = 0; i < B; ++i) h.v[i] = *at(row, first + i);
    h.make();
    if (h.scale != 0) {
      if (index > 0) apply_from_right<B>(at(first - B, first), kStride, h);
      apply_from_right<B>(at(first, first), kStride, h);
    }
    *at(row, first) = h.image;
    for (int i = 1; i < B; ++i) *at(row, first + i) = 0;

    for (int i = 0; i < B; ++i) h.v[i] = *at(first + i, first);
    h.make();
    if (h.scale != 0) apply_from_left<B>(at(first, first), kStride, h);
    *at(first, first) = h.image;
    for (int i = 1; i < B; ++i) *at(first + i, first) = 0;
  }

  double* origin_;
  std::int64_t size_;
};

}  // namespace

void SPECTRACE_CHASE(double* origin, std::int64_t size, std::int64_t bandwidth) {
  switch (bandwidth) {
    case 16: return Chase<16>(origin, size).run();
    case 32: return Chase<32>(origin, size).run();
    case 64: return Chase<64>(origin, size).run();
    default: __builtin_trap();  // chase_bulges has checked it
  }
}

}  // namespace spectrace
