// A part of symmetric_kernels.inl, which has the vectors: a dense matrix becomes a band, the first of two stages.

namespace spectrace {
namespace {

constexpr int kTogether = 2;                       // vectors that a tile of a result is wide
constexpr int kTileWidth = kTogether * kLanes;     // in columns
constexpr int kTileHeight = kLanes == 8 ? 12 : 6;  // as many sums as registers hold
constexpr int kPair = 2 * kBandwidth;
static_assert(kBandwidth % kTileWidth == 0 && kSymmetricTileRows % kTileHeight == 0);
static_assert(kSymmetricTileColumns % kBandwidth == 0 && kSymmetricTileColumns % kSymmetricTileRows == 0);
static_assert(kBandReductionColumns == kPair + 2 * kBandwidth);
static_assert(kBandReductionSquares == 3 * kBandwidth * kBandwidth + kPair * kSymmetricTileColumns);

/// Of a product's tile the sums over k: of factors(row, k) times row k of `vectors`, two vectors of its columns.
template <int kHeight>
struct ProductTile {
  Lanes sums[kHeight][kTogether] = {};

  template <int kRowStep, int kStep, int kVectorsStep>
  inline void add(const double* factors, const double* vectors, std::int64_t count) {
    for (std::int64_t k = 0; k < count; ++k, factors += kStep, vectors += kVectorsStep) {
      const Lanes first = load(vectors), second = load(vectors + kLanes);
#pragma GCC unroll 12
      for (int r = 0; r < kHeight; ++r) {
        const Lanes factor = all(factors[r * kRowStep]);
        sums[r][0] = add_product(sums[r][0], factor, first);
        sums[r][1] = add_product(sums[r][1], factor, second);
      }
    }
  }

  template <int kStep>
  inline void write_to(double* to) const {
#pragma GCC unroll 12
    for (int r = 0; r < kHeight; ++r)
      for (int v = 0; v < kTogether; ++v) store(to + r * kStep + v * kLanes, sums[r][v]);
  }

  /// to = from + scale sums, for a scale of 1 or -1.
  template <int kScale, int kFromStep, int kToStep>
  inline void add_onto(const double* from, double* to) const {
#pragma GCC unroll 12
    for (int r = 0; r < kHeight; ++r)
      for (int v = 0; v < kTogether; ++v) {
        const Lanes before = load(from + r * kFromStep + v * kLanes);
        store(to + r * kToStep + v * kLanes, kScale > 0 ? before + sums[r][v] : before - sums[r][v]);
      }
  }
};

/// Panels of kBandwidth columns become triangles by reflectors, which go to the rest from both sides: Q^T A Q =
/// A - V W^T - W V^T with Q = I - V T V^T, W = X - V T^T V^T X / 2 and X = A V T (Dongarra, Sorensen, Hammarling 1989;
/// Bischof, Lang, Sun, ACM Trans. Math. Softw. 26, 2000). A pair V, W is taken off in one pass with the product of the
/// next one, whose panel is made first: so a part of the matrix comes into the cache once for both, and products are
/// all that is done with it.
///
/// Sums are made of short chains (a tile's), then of the tiles': in one chain the roundings of a matrix of equal
/// entries, which all have one sign, add up to several times as much. docs/numerics.md has the error's bound.
class BandReduction {
 public:
  BandReduction(double* tiles, std::int64_t n, std::int64_t padded_rows, double* work, double* band)
      : tiles_(tiles), n_(n), rows_(padded_rows), band_(band), triangle_(work) {
    const std::int64_t height = (rows_ + kSymmetricTileColumns - 1) / kSymmetricTileColumns * kSymmetricTileColumns;
    inner_ = triangle_ + kBandwidth * kBandwidth;
    correction_ = inner_ + kBandwidth * kBandwidth;
    columns_ = correction_ + kBandwidth * kBandwidth;
    pair_ = columns_ + kPair * kSymmetricTileColumns;
    v_ = pair_ + kPair * height;
    product_ = v_ + kBandwidth * height;
  }

  void run() {
    for (std::int64_t k = 0; k < n_; k += kBandwidth) {
      take_panel(k);
      keep_diagonal_block(k);
      const std::int64_t first = k + kBandwidth;
      if (first >= n_) break;
      factorize_panel(first);
      keep_triangle(first);
      multiply(first);
      make_pair(first);
    }
  }

 private:
  static std::int64_t begin_of_rows(std::int64_t row) { return row / kSymmetricTileRows * kSymmetricTileRows; }
  static std::int64_t least(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
  /// Entry (row, first column) of a strip.
  double* at(std::int64_t strip, std::int64_t row) const {
    constexpr std::int64_t w = kSymmetricTileColumns;
    return tiles_ + w * (strip * rows_ - w * (strip * (strip - 1) / 2) + row - w * strip);
  }
  double& band(std::int64_t i, std::int64_t j) const { return band_[i + kBandStride * j]; }

  /// Of the strip's columns rows of [W V], transposed, as tiles read it.
  void set_columns(std::int64_t strip) {
    const double* from = pair_ + strip * kSymmetricTileColumns * kPair;
    for (int j = 0; j < kSymmetricTileColumns; ++j, from += kPair)
      for (int p = 0; p < kBandwidth; ++p) {
        columns_[p * kSymmetricTileColumns + j] = from[kBandwidth + p];
        columns_[(kBandwidth + p) * kSymmetricTileColumns + j] = from[p];
      }
  }

  /// v = columns k to k + kBandwidth less what the pair takes off them.
  void take_panel(std::int64_t k) {
    const std::int64_t strip = k / kSymmetricTileColumns, column = k - strip * kSymmetricTileColumns;
    set_columns(strip);
    for (std::int64_t i = begin_of_rows(k); i < rows_; i += kTileHeight)
      for (int c = 0; c < kBandwidth; c += kTileWidth) {
        ProductTile<kTileHeight> tile;
        tile.template add<kPair, 1, kSymmetricTileColumns>(pair_ + i * kPair, columns_ + column + c, kPair);
        tile.template add_onto<-1, kSymmetricTileColumns, kBandwidth>(at(strip, i) + column + c,
                                                                      v_ + i * kBandwidth + c);
      }
  }

  void keep_diagonal_block(std::int64_t k) {
    for (std::int64_t i = k; i < least(k + kBandwidth, n_); ++i)
      for (std::int64_t j = k; j <= i; ++j) band(i, j) = band(j, i) = v_[i * kBandwidth + j - k];
    for (std::int64_t i = k / kSymmetricTileColumns * kSymmetricTileColumns * kBandwidth;
         i < (k + kBandwidth) * kBandwidth; ++i)
      v_[i] = 0;
  }

  /// Rows of v from `first` on become the triangle R and below it the reflectors, which are 1 in R's diagonal.
  void factorize_panel(std::int64_t first) {
    for (int j = 0; j < kBandwidth; ++j) {
      for (int c = 0; c < kBandwidth; ++c) triangle_[c * kBandwidth + j] = 0;
      if (first + j < rows_) eliminate(first + j, j);
    }
  }

  void eliminate(std::int64_t pivot, int j) {
    double* const row = v_ + pivot * kBandwidth;
    alignas(64) double dots[kBandwidth], factors[kBandwidth] = {};
    multiply_with_column(pivot + 1, j, dots);
    const double rest = dots[j], before = row[j];
    // A sum of squares below this has lost digits; what it is of is less than 1e-140 of the largest entry.
    if (rest < 1e-280) {
      for (std::int64_t i = pivot + 1; i < rows_; ++i) v_[i * kBandwidth + j] = 0;
      return;
    }
    const double norm = __builtin_sqrt(before * before + rest), image = before > 0 ? -norm : norm;
    const double factor = 1 / (before - image), scale = (image - before) / image;
    for (int c = 0; c < kBandwidth; ++c) dots[c] = row[c] + factor * dots[c];  // with the reflector
    for (int c = j + 1; c < kBandwidth; ++c) {
      factors[c] = scale * dots[c];
      row[c] -= factors[c];
    }
    row[j] = image;
    apply(pivot + 1, j, factor, factors);
    for (int c = 0; c < j; ++c) {
      double sum = 0;
      for (int l = c; l < j; ++l) sum += triangle_[c * kBandwidth + l] * dots[l];
      triangle_[c * kBandwidth + j] = -scale * sum;
    }
    triangle_[j * kBandwidth + j] = scale;
  }

  /// Column j's inner products with all columns, from row `begin` on.
  void multiply_with_column(std::int64_t begin, int j, double* dots) const {
    constexpr std::int64_t kBlock = 64;
    constexpr int kChains = 4;
    for (int c = 0; c < kBandwidth; c += kTileWidth) {
      Lanes total[kTogether] = {};
      for (std::int64_t i = begin; i < rows_; i += kBlock) {
        Lanes sums[kChains][kTogether] = {};
        const std::int64_t end = least(i + kBlock, rows_);
        for (std::int64_t r = i; r < end; r += kChains)
          for (int chain = 0; chain < kChains && r + chain < end; ++chain) {
            const double* const row = v_ + (r + chain) * kBandwidth;
            const Lanes factor = all(row[j]);
            for (int v = 0; v < kTogether; ++v)
              sums[chain][v] = add_product(sums[chain][v], factor, load(row + c + v * kLanes));
          }
        for (int v = 0; v < kTogether; ++v) total[v] += (sums[0][v] + sums[1][v]) + (sums[2][v] + sums[3][v]);
      }
      for (int v = 0; v < kTogether; ++v) store(dots + c + v * kLanes, total[v]);
    }
  }

  /// Column j becomes `factor` times itself; that times `factors` is taken off the others.
  void apply(std::int64_t begin, int j, double factor, const double* factors) {
    constexpr int kVectors = kBandwidth / kLanes;
    Lanes off[kVectors];
    for (int v = 0; v < kVectors; ++v) off[v] = load(factors + v * kLanes);
    for (std::int64_t i = begin; i < rows_; ++i) {
      double* const row = v_ + i * kBandwidth;
      const double entry = row[j] * factor;
      const Lanes entries = all(entry);
      for (int v = 0; v < kVectors; ++v)
        store(row + v * kLanes, subtract_product(load(row + v * kLanes), entries, off[v]));
      row[j] = entry;
    }
  }

  /// The panel's triangle goes to the band; v is left with the reflectors.
  void keep_triangle(std::int64_t first) {
    for (std::int64_t i = 0; i < kBandwidth && first + i < rows_; ++i) {
      double* const row = v_ + (first + i) * kBandwidth;
      for (std::int64_t c = i; c < kBandwidth; ++c) {
        const std::int64_t column = first - kBandwidth + c;
        if (first + i < n_) band(first + i, column) = row[c];
        if (i == 0 && c > 0) band(column, first) = row[c];  // for the chase's first blocks of the diagonal
        row[c] = c == i ? 1 : 0;
      }
    }
  }

  /// A -= V W^T + W V^T of the pair, and product = A v, from row and column `first` on.
  void multiply(std::int64_t first) {
    constexpr std::int64_t w = kSymmetricTileColumns;
    for (std::int64_t i = first / w * w * kBandwidth; i < rows_ * kBandwidth; ++i) product_[i] = 0;
    for (std::int64_t strip = first / w; strip * w < rows_; ++strip) {
      const std::int64_t begin = strip * w, column = first > begin ? first - begin : 0;
      const std::int64_t end_of_diagonal = least(begin + w, rows_);
      set_columns(strip);
      subtract_pair(strip, column, begin_of_rows(begin + column), end_of_diagonal);
      mirror(strip, begin + column, end_of_diagonal);
      for (std::int64_t i = begin_of_rows(begin + column); i < end_of_diagonal; i += kSymmetricTileRows)
        multiply_rows(strip, column, i);
      for (std::int64_t i = end_of_diagonal; i < rows_; i += kBlockOfRows) {
        const std::int64_t end = least(i + kBlockOfRows, rows_);
        subtract_pair(strip, column, i, end);
        for (std::int64_t r = i; r < end; r += kSymmetricTileRows) multiply_rows(strip, column, r);
        multiply_columns(strip, column, i, end - i);
      }
    }
    has_pair_ = true;
  }

  void subtract_pair(std::int64_t strip, std::int64_t column, std::int64_t row, std::int64_t end) const {
    if (!has_pair_) return;
    for (std::int64_t c = column; c < kSymmetricTileColumns; c += kTileWidth)
      for (std::int64_t r = row; r < end; r += kTileHeight) {
        if (c >= r + kTileHeight - strip * kSymmetricTileColumns) continue;  // above the diagonal: mirrored
        double* const place = at(strip, r) + c;
        for (int i = 0; i < kTileHeight; ++i)
          for (int v = 0; v < kTileWidth; v += 8)
            __builtin_prefetch(place + (end - row + i) * kSymmetricTileColumns + v, 1);
        ProductTile<kTileHeight> tile;
        tile.template add<kPair, 1, kSymmetricTileColumns>(pair_ + r * kPair, columns_ + c, kPair);
        tile.template add_onto<-1, kSymmetricTileColumns, kSymmetricTileColumns>(place, place);
      }
  }

  /// What the two halves of the diagonal's tile were rounded to may differ; a matrix that is not symmetric is none of
  /// those that the error's bound is for.
  void mirror(std::int64_t strip, std::int64_t first, std::int64_t end) const {
    const std::int64_t begin = strip * kSymmetricTileColumns;
    double* const tile = at(strip, begin);
    for (std::int64_t i = first - begin; i < end - begin; ++i)
      for (std::int64_t j = first - begin; j < i; ++j)
        tile[j * kSymmetricTileColumns + i] = tile[i * kSymmetricTileColumns + j];
  }

  void multiply_rows(std::int64_t strip, std::int64_t column, std::int64_t row) const {
    const std::int64_t begin = strip * kSymmetricTileColumns, width = least(kSymmetricTileColumns, rows_ - begin);
    for (int r = 0; r < kSymmetricTileRows; r += kTileHeight)
      for (int c = 0; c < kBandwidth; c += kTileWidth) {
        ProductTile<kTileHeight> tile;
        tile.template add<kSymmetricTileColumns, 1, kBandwidth>(at(strip, row + r) + column,
                                                                v_ + (begin + column) * kBandwidth + c, width - column);
        double* const place = product_ + (row + r) * kBandwidth + c;
        tile.template add_onto<1, kBandwidth, kBandwidth>(place, place);
      }
  }

  void multiply_columns(std::int64_t strip, std::int64_t column, std::int64_t row, std::int64_t count) const {
    const std::int64_t begin = strip * kSymmetricTileColumns;
    for (std::int64_t j = begin_of_rows(column); j < kSymmetricTileColumns; j += kTileHeight)
      for (int c = 0; c < kBandwidth; c += kTileWidth) {
        ProductTile<kTileHeight> tile;
        tile.template add<1, kSymmetricTileColumns, kBandwidth>(at(strip, row) + j, v_ + row * kBandwidth + c, count);
        double* const place = product_ + (begin + j) * kBandwidth + c;
        tile.template add_onto<1, kBandwidth, kBandwidth>(place, place);
      }
  }

  /// The pair of v and the product.
  void make_pair(std::int64_t first) {
    constexpr int kHeight = kLanes == 8 ? 8 : 4;
    const std::int64_t begin = begin_of_rows(first);
    for (std::int64_t i = begin; i < rows_; i += kTileHeight)
      for (int c = 0; c < kBandwidth; c += kTileWidth)
        multiply_square(product_ + i * kBandwidth, triangle_ + c).template write_to<kPair>(x_of(i) + c);
    for (int i = 0; i < kBandwidth * kBandwidth; ++i) inner_[i] = correction_[i] = 0;
    for (std::int64_t i = first; i < rows_; i += kBlockOfRows)
      add_transposed<kHeight, kPair>(v_ + i * kBandwidth, x_of(i), least(kBlockOfRows, rows_ - i), inner_);
    add_transposed<kHeight, kBandwidth>(triangle_, inner_, kBandwidth, correction_);
    for (int i = 0; i < kBandwidth * kBandwidth; ++i) correction_[i] *= 0.5;
    for (std::int64_t i = begin; i < rows_; i += kTileHeight)
      for (int c = 0; c < kBandwidth; c += kTileWidth)
        multiply_square(v_ + i * kBandwidth, correction_ + c)
            .template add_onto<-1, kPair, kPair>(x_of(i) + c, x_of(i) + c);
    for (std::int64_t i = begin; i < rows_; ++i)
      for (int c = 0; c < kBandwidth; ++c) {
        pair_[i * kPair + c] = v_[i * kBandwidth + c];
        if (i < first) x_of(i)[c] = 0;
      }
  }

  /// X, then W.
  double* x_of(std::int64_t row) const { return pair_ + row * kPair + kBandwidth; }

  /// [rows, kBandwidth] times a matrix of as many rows.
  static ProductTile<kTileHeight> multiply_square(const double* rows, const double* square) {
    ProductTile<kTileHeight> tile;
    tile.template add<kBandwidth, 1, kBandwidth>(rows, square, kBandwidth);
    return tile;
  }

  /// square += the transpose of `rows` times `others`, [count, kBandwidth] both.
  template <int kHeight, int kOthersStep>
  static void add_transposed(const double* rows, const double* others, std::int64_t count, double* square) {
    for (int r = 0; r < kBandwidth; r += kHeight)
      for (int c = 0; c < kBandwidth; c += kTileWidth) {
        ProductTile<kHeight> tile;
        tile.template add<1, kBandwidth, kOthersStep>(rows + r, others + c, count);
        double* const place = square + r * kBandwidth + c;
        tile.template add_onto<1, kBandwidth, kBandwidth>(place, place);
      }
  }

  static constexpr std::int64_t kBlockOfRows = 4 * kSymmetricTileRows;

  double* const tiles_;
  const std::int64_t n_, rows_;
  double* const band_;
  bool has_pair_ = false;
  double *triangle_, *inner_, *correction_;  // T; V^T X; T^T V^T X / 2
  double* columns_;                          // [kPair, a strip's columns]
  double* pair_;                             // [rows, kPair]: V and W, which are not taken off yet
  double *v_, *product_;                     // [rows, kBandwidth]: the next V, and A V
};

}  // namespace
}  // namespace spectrace
