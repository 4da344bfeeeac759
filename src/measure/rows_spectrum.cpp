#include "rows_spectrum.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "spectrace/numerics/exact_gram.hpp"

namespace spectrace {
namespace {

// Of a part's record.
constexpr const char *kTriangle = "triangle", *kTriangleFacts = "triangle_facts";
constexpr const char *kGramHigh = "gram_high", *kGramLow = "gram_low", *kGramFacts = "gram_facts";

constexpr double kMostCount = 1e12;

bool is_count(double x) { return x >= 1 && x <= kMostCount && x == std::floor(x); }

bool has(const Record& part, const char* name, std::int64_t size) {
  const auto found = part.arrays.find(name);
  return found != part.arrays.end() && found->second.shape == std::vector<std::int64_t>{size};
}

std::int64_t packed_size(std::int64_t num_columns) { return num_columns * (num_columns + 1) / 2; }

void add(Record& record, const char* name, std::vector<double> values) {
  const auto size = static_cast<std::int64_t>(values.size());
  record.arrays[name] = {{size}, std::move(values)};
}

/// By the triangle of a QR factorization.
class ByQr final : public RowsSpectrum {
 public:
  ByQr(std::int64_t num_columns, bool gets_parts)
      : tall_(gets_parts ? TallSingularValues::of_triangles(num_columns) : TallSingularValues(num_columns)) {}
  void add_rows(const Tensor& rows) override { tall_.add_rows(rows); }
  SingularValues finish() override { return tall_.finish(); }
  void leave(Record& record) override {
    TriangleOfRows part = tall_.triangle();
    const TriangleFacts& facts = part.facts;
    add(record, kTriangle, std::move(part.entries));
    add(record, kTriangleFacts,
        {static_cast<double>(facts.exponent), facts.sum_of_squares, static_cast<double>(facts.num_reflectors),
         static_cast<double>(facts.max_height)});
  }
  void add_part(const Record& part, std::int64_t num_rows) override {
    const auto& facts = part.arrays.at(kTriangleFacts).values;
    tall_.add_triangle(part.arrays.at(kTriangle).values,
                       {static_cast<int>(facts[0]), facts[1], num_rows, static_cast<std::int64_t>(facts[2]),
                        static_cast<std::int64_t>(facts[3])});
  }

 private:
  TallSingularValues tall_;
};

class QrWay final : public RowsWay {
 public:
  using RowsWay::RowsWay;
  bool takes_16_bits() const override { return false; }
  std::unique_ptr<RowsSpectrum> start() const override { return std::make_unique<ByQr>(columns_, false); }
  std::unique_ptr<RowsSpectrum> start_join() const override { return std::make_unique<ByQr>(columns_, true); }
  bool fits(const Record& part) const override {
    constexpr std::int64_t kNumFacts = 4;
    constexpr double kMostExponent = 1100;
    if (!has(part, kTriangle, packed_size(columns_)) || !has(part, kTriangleFacts, kNumFacts)) return false;
    const auto& facts = part.arrays.at(kTriangleFacts).values;
    return std::abs(facts[0]) <= kMostExponent && facts[0] == std::floor(facts[0]) && facts[1] >= 0 &&
           is_count(facts[2]) && is_count(facts[3]);
  }
  double flops() const override { return singular_values_flops(rows_, columns_); }
  double part_flops(std::int64_t num_rows) const override { return triangle_flops(num_rows, columns_); }
  double join_flops(std::int64_t num_parts) const override { return spectrace::join_flops(num_parts, columns_); }
  std::int64_t bytes() const override { return singular_values_bytes(rows_, columns_); }
  std::int64_t part_bytes(std::int64_t num_rows) const override { return triangle_bytes(num_rows, columns_); }
  std::int64_t join_bytes() const override { return spectrace::join_bytes(columns_); }
  std::int64_t record_bytes() const override { return 8 * packed_size(columns_); }
};

/// By an exact Gram matrix.
class ByGram final : public RowsSpectrum {
 public:
  explicit ByGram(std::int64_t num_columns) : num_columns_(num_columns), gram_(num_columns) {}
  void add_rows(const Tensor& rows) override { gram_.add_rows(rows); }
  SingularValues finish() override { return singular_values_of_gram(gram_.take(), num_columns_); }
  void leave(Record& record) override {
    GramOfRows part = gram_.take();
    add(record, kGramFacts, {static_cast<double>(part.facts.num_additions)});
    add(record, kGramHigh, std::move(part.high));
    add(record, kGramLow, std::move(part.low));
  }
  void add_part(const Record& part, std::int64_t num_rows) override {
    gram_.add_sums(part.arrays.at(kGramHigh).values, part.arrays.at(kGramLow).values,
                   {num_rows, static_cast<std::int64_t>(part.arrays.at(kGramFacts).values[0])});
  }

 private:
  std::int64_t num_columns_;
  ExactGram gram_;
};

class GramWay final : public RowsWay {
 public:
  using RowsWay::RowsWay;
  bool takes_16_bits() const override { return true; }
  std::unique_ptr<RowsSpectrum> start() const override { return std::make_unique<ByGram>(columns_); }
  std::unique_ptr<RowsSpectrum> start_join() const override { return start(); }
  bool fits(const Record& part) const override {
    return has(part, kGramHigh, packed_size(columns_)) && has(part, kGramLow, packed_size(columns_)) &&
           has(part, kGramFacts, 1) && is_count(part.arrays.at(kGramFacts).values[0]);
  }
  double flops() const override { return gram_flops(rows_, columns_) + gram_singular_values_flops(columns_); }
  double part_flops(std::int64_t num_rows) const override { return gram_flops(num_rows, columns_); }
  double join_flops(std::int64_t) const override { return gram_singular_values_flops(columns_); }
  std::int64_t bytes() const override {
    return std::max(gram_bytes(rows_, columns_), gram_singular_values_bytes(columns_));
  }
  std::int64_t part_bytes(std::int64_t num_rows) const override { return gram_bytes(num_rows, columns_); }
  std::int64_t join_bytes() const override { return gram_join_bytes(columns_); }
  std::int64_t record_bytes() const override { return 2 * 8 * packed_size(columns_); }
};

/// Below it a QR factorization takes no longer.
constexpr std::int64_t kLeastHeightOfGram = 3;

}  // namespace

std::unique_ptr<RowsWay> way_to_rows_spectrum(std::int64_t num_rows, std::int64_t num_columns, bool is_of_16_bits) {
  if (is_of_16_bits && num_rows >= kLeastHeightOfGram * num_columns)
    return std::make_unique<GramWay>(num_rows, num_columns);
  return std::make_unique<QrWay>(num_rows, num_columns);
}

}  // namespace spectrace
