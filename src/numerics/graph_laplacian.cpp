#include "spectrace/numerics/graph_laplacian.hpp"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "pairwise_sum.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/floats.hpp"
#include "spectrace/core/parallel.hpp"
#include "spectrace/numerics/device.hpp"
#include "symmetric_eigenvalues.hpp"

namespace spectrace {
namespace {

/// A view of one head's attention.
template <typename Real>
struct Head {
  const Real* entries;
  std::int64_t row_stride, column_stride, n;

  double operator()(std::int64_t i, std::int64_t j) const {
    return static_cast<double>(entries[i * row_stride + j * column_stride]);
  }
  double weight(std::int64_t i, std::int64_t j) const { return 0.5 * ((*this)(i, j) + (*this)(j, i)); }
};

/// Writes L_G of a head, strip by strip: an entry of the diagonal is the sum of its row's weights in the order of
/// columns, whatever the blocks are.
template <typename Real, typename Matrix>
class LaplacianWriter {
 public:
  LaplacianWriter(const Head<Real>& a, Matrix& l)
      : a_(a), l_(l), row_totals_(static_cast<std::size_t>(l.padded_rows())), diagonal_(row_totals_.size()) {}

  /// sum A - tr A.
  double write() {
    const std::int64_t rows = l_.block_rows();
    for (std::int64_t first = 0; first < a_.n; first += kColumns) {
      const std::int64_t strip = first / kColumns, begin = l_.first_row(strip), whole = l_.rows_of_diagonal();
      write_block_of_diagonal(first, std::min(a_.n, begin + whole));
      double* block = l_.strip(strip) + kColumns * whole;
      for (std::int64_t i = begin + whole; i < a_.n; i += rows, block += kColumns * rows)
        write_block(i, first, std::min(rows, a_.n - i), block);
    }
    double total = 0.0;
    for (std::int64_t i = 0; i < a_.n; ++i) {
      l_.at(i, i) = diagonal_[static_cast<std::size_t>(i)];
      total += row_totals_[static_cast<std::size_t>(i)];
    }
    return 2.0 * total;
  }

 private:
  static constexpr std::int64_t kColumns = Matrix::kColumns;

  /// Both halves of it. Its columns begin at `first`, where its rows may have begun before.
  void write_block_of_diagonal(std::int64_t first, std::int64_t end) {
    const std::int64_t begin = l_.first_row(first / kColumns);
    for (std::int64_t i = first; i < end; ++i) {
      double& row_total = row_totals_[static_cast<std::size_t>(i)];
      for (std::int64_t j = first; j < std::min(i, first + kColumns); ++j) {
        const double weight = a_.weight(i, j);
        l_.at(i, j) = -weight;
        if (l_.first_row(i / kColumns) == begin) l_.at(j, i) = -weight;
        diagonal_[static_cast<std::size_t>(j)] += weight;
        row_total += weight;
      }
      if (i < first + kColumns) diagonal_[static_cast<std::size_t>(i)] = row_total;
    }
  }

  void write_block(std::int64_t row, std::int64_t column, std::int64_t num_rows, double* block) {
    double* const row_totals = row_totals_.data() + row;
    for (std::int64_t c = 0; c < kColumns; ++c) {
      double total = diagonal_[static_cast<std::size_t>(column + c)];
      double* const entries = block + c * l_.column_step();
      for (std::int64_t r = 0; r < num_rows; ++r) {
        const double weight = a_.weight(row + r, column + c);
        entries[r * l_.row_step()] = -weight;
        row_totals[r] += weight;
        total += weight;
      }
      diagonal_[static_cast<std::size_t>(column + c)] = total;
    }
  }

  const Head<Real> a_;
  Matrix& l_;
  std::vector<double> row_totals_, diagonal_;  // of what is written
};

template <typename Matrix>
double write_laplacian(const Tensor& a, Matrix& l) {
  const auto write = [&]<typename Real>(const Real* entries) {
    return LaplacianWriter<Real, Matrix>({entries, a.stride(0), a.stride(1), a.size(0)}, l).write();
  };
  return a.scalar_type() == at::kFloat ? write(a.const_data_ptr<float>()) : write(a.const_data_ptr<double>());
}

}  // namespace

/// A Laplacian in its tridiagonal form; where the attention is not finite, of zeros.
struct GraphSpectra::Reduced {
  SymmetricTridiagonal laplacian;
  double off_diagonal_sum = 0;

  template <typename Matrix>
  static Reduced of(const Tensor& a) {
    Reduced head;
    Matrix l(a.size(0));
    head.off_diagonal_sum = write_laplacian(a, l);
    const auto entries = l.entries();
    if (!std::isfinite(head.off_diagonal_sum)) std::fill(entries.begin(), entries.end(), 0.0);
    head.laplacian = tridiagonalize(std::move(l));
    return head;
  }
};

GraphSpectra::GraphSpectra() = default;
GraphSpectra::~GraphSpectra() = default;
GraphSpectra::GraphSpectra(GraphSpectra&&) noexcept = default;
GraphSpectra& GraphSpectra::operator=(GraphSpectra&&) noexcept = default;

void GraphSpectra::add(const Tensor& a) {
  SPECTRACE_ASSERT(a.dim() == 3 && a.size(1) == a.size(2) && a.size(1) > 0);
  SPECTRACE_ASSERT(a.scalar_type() == at::kFloat || a.scalar_type() == at::kDouble);
  if (!Device::of(a).is_host()) {  // as many at a time as all threads have work with
    for (std::int64_t first = 0; first < a.size(0); first += num_threads())
      add(Device::to_host(a.narrow(0, first, std::min<std::int64_t>(num_threads(), a.size(0) - first))));
    return;
  }
  const std::size_t before = heads_.size();
  heads_.resize(before + static_cast<std::size_t>(a.size(0)));
  parallel_for(a.size(0), [&](std::int64_t i) {
    const c10::InferenceMode no_autograd;
    const Tensor head = a.select(0, i);
    heads_[before + static_cast<std::size_t>(i)] =
        head.size(0) < kTwoStageSize ? Reduced::of<SymmetricStrips>(head) : Reduced::of<SymmetricTiles>(head);
  });
}

std::vector<GraphSpectrum> GraphSpectra::take() {
  const auto heads = std::exchange(heads_, {});
  std::vector<GraphSpectrum> spectra(heads.size());
  // The more go together the less one takes; but all threads shall have some.
  const auto count = static_cast<std::int64_t>(heads.size());
  const std::int64_t step = symmetric_kernels().together_step, threads = is_in_task() ? 1 : num_threads(),
                     a_thread = (count + threads - 1) / threads,
                     together = std::clamp((a_thread + step - 1) / step * step, step, values_together());
  parallel_for((count + together - 1) / together, [&](std::int64_t group) {
    const c10::InferenceMode no_autograd;
    const auto begin = static_cast<std::size_t>(group * together),
               end = std::min(begin + static_cast<std::size_t>(together), heads.size());
    std::vector<const SymmetricTridiagonal*> some;
    for (std::size_t i = begin; i < end; ++i) some.push_back(&heads[i].laplacian);
    auto values = eigenvalues(some);
    for (std::size_t i = begin; i < end; ++i) {
      const Reduced& head = heads[i];
      auto& own = values[i - begin];
      spectra[i].off_diagonal_sum = head.off_diagonal_sum;
      if (!std::isfinite(head.off_diagonal_sum))
        spectra[i].eigenvalues.assign(head.laplacian.diagonal.size(), kNaN);
      else
        spectra[i].eigenvalues = own ? std::move(*own) : eigenvalues_by_lapack(head.laplacian);
    }
  });
  return spectra;
}

std::vector<GraphSpectrum> graph_spectra(const Tensor& a) {
  GraphSpectra spectra;
  spectra.add(a);
  return spectra.take();
}

double graph_eigenvalue_error(std::int64_t num_tokens, double largest) {
  const auto n = static_cast<double>(num_tokens);
  constexpr double kBand = 16;
  // Of the tridiagonal form by the way with more reflectors, and of QL, which does the same once more.
  return 2.0 * (8.0 + 2.0 * std::sqrt(2.0 * n * (n + kBand))) * 0x1p-53 * largest;
}

std::int64_t graph_spectra_bytes(std::int64_t num_heads, std::int64_t num_tokens, int num_threads) {
  // A Laplacian for each thread, and of all heads two numbers a token; values take as many once more while they come.
  return std::min<std::int64_t>(num_heads, num_threads) * tridiagonalization_bytes(num_tokens) +
         6 * num_heads * num_tokens * static_cast<std::int64_t>(sizeof(double));
}

double contraction_ratio(const Tensor& a) {
  SPECTRACE_ASSERT(a.dim() == 2 && a.size(0) == a.size(1) && a.size(0) > 0);
  SPECTRACE_ASSERT(a.scalar_type() == at::kDouble && a.is_contiguous());
  const double* const entries = a.const_data_ptr<double>();
  const auto n = static_cast<double>(a.size(0));
  return pairwise_sum(0, a.numel(), [=](std::int64_t i) { return std::sqrt(entries[i]); }) / (n * (n + 1.0) / 2.0);
}

}  // namespace spectrace
