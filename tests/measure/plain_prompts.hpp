#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <vector>

#include "spectrace/numerics/tensor.hpp"

/// Sections 3 and 4 of docs/quantities.md once more, as plainly as they stand there: loops over entries in extended
/// precision, an eigenvalue solver by rotations, every eigenvalue of the sheaf Laplacian by itself.
namespace spectrace::plain {

using Real = long double;
using Matrix = std::vector<std::vector<Real>>;

/// @pre a is [n, n].
inline Matrix matrix_of(const Tensor& a) {
  const Tensor wide = a.to(at::kDouble).contiguous();
  const auto n = static_cast<std::size_t>(a.size(0));
  Matrix matrix(n, std::vector<Real>(n));
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < n; ++j) matrix[i][j] = wide.const_data_ptr<double>()[i * n + j];
  return matrix;
}

inline Matrix mean_of(const std::vector<Matrix>& heads) {
  Matrix mean = heads.front();
  for (std::size_t i = 0; i < mean.size(); ++i)
    for (std::size_t j = 0; j < mean.size(); ++j) {
      Real sum = 0;
      for (const Matrix& head : heads) sum += head[i][j];
      mean[i][j] = sum / static_cast<Real>(heads.size());
    }
  return mean;
}

inline Real row_entropy(const Matrix& a) {
  Real sum = 0;
  for (const auto& row : a)
    for (const Real entry : row) sum -= entry > 0 ? entry * std::log(entry) : 0;
  return sum / static_cast<Real>(a.size());
}

/// @param least 0.01 in the type of the entries
inline Real sparsity(const Matrix& a, double least) {
  std::size_t count = 0;
  for (const auto& row : a)
    for (const Real entry : row) count += entry < least;
  return static_cast<Real>(count) / static_cast<Real>(a.size() * a.size());
}

inline Real flat_entropy(const Matrix& a) {
  std::vector<Real> kept;
  for (const auto& row : a)
    std::copy_if(row.begin(), row.end(), std::back_inserter(kept), [](Real x) { return x > 1e-10; });
  if (kept.size() < 2) return 0;
  Real sum = 0, entropy = 0;
  for (const Real entry : kept) sum += entry;
  for (const Real entry : kept) entropy -= entry / sum * std::log(entry / sum);
  return entropy / std::log(static_cast<Real>(kept.size()));
}

inline Real off_diagonal_sum(const Matrix& a) {
  Real sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    for (std::size_t j = 0; j < a.size(); ++j) sum += i == j ? 0 : a[i][j];
  return sum;
}

inline Real contraction_ratio(const Matrix& a) {
  Real sum = 0;
  std::size_t count = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    for (std::size_t j = 0; j <= i; ++j, ++count) sum += std::sqrt(a[i][j]);
  return sum / static_cast<Real>(count);
}

/// Laplacian of the token graph.
inline Matrix laplacian(const Matrix& a) {
  Matrix laplacian(a.size(), std::vector<Real>(a.size()));
  for (std::size_t i = 0; i < a.size(); ++i)
    for (std::size_t j = 0; j < a.size(); ++j) {
      if (i == j) continue;
      const Real weight = (a[i][j] + a[j][i]) / 2;
      laplacian[i][j] = -weight;
      laplacian[i][i] += weight;
    }
  return laplacian;
}

/// Rotates rows and columns p and q so that m[p][q] becomes zero (Jacobi 1846).
inline void rotate(Matrix& m, std::size_t p, std::size_t q) {
  if (m[p][q] == 0) return;
  const Real theta = (m[q][q] - m[p][p]) / (2 * m[p][q]);
  const Real t = (theta >= 0 ? 1 : -1) / (std::abs(theta) + std::sqrt(theta * theta + 1));
  const Real c = 1 / std::sqrt(t * t + 1), s = t * c;
  for (std::size_t k = 0; k < m.size(); ++k) {
    const Real x = m[k][p], y = m[k][q];
    m[k][p] = c * x - s * y;
    m[k][q] = s * x + c * y;
  }
  for (std::size_t k = 0; k < m.size(); ++k) {
    const Real x = m[p][k], y = m[q][k];
    m[p][k] = c * x - s * y;
    m[q][k] = s * x + c * y;
  }
}

/// Ascending. @pre m is symmetric
inline std::vector<Real> eigenvalues(Matrix m) {
  constexpr int kSweeps = 20;  // a dozen are enough for any matrix
  for (int sweep = 0; sweep < kSweeps; ++sweep)
    for (std::size_t p = 0; p < m.size(); ++p)
      for (std::size_t q = p + 1; q < m.size(); ++q) rotate(m, p, q);
  std::vector<Real> values;
  for (std::size_t i = 0; i < m.size(); ++i) values.push_back(m[i][i]);
  std::sort(values.begin(), values.end());
  return values;
}

/// Eigenvalues with how many of them are zero.
struct Levels {
  std::vector<Real> non_zero;  ///< ascending
  std::size_t num_zeros = 0;

  std::size_t size() const { return non_zero.size() + num_zeros; }
};

/// Zero means <= threshold times the largest.
inline Levels levels_of(const std::vector<Real>& values, Real threshold) {
  Levels levels;
  const Real largest = *std::max_element(values.begin(), values.end());
  for (const Real value : values)
    if (value > threshold * largest)
      levels.non_zero.push_back(value);
    else
      ++levels.num_zeros;
  std::sort(levels.non_zero.begin(), levels.non_zero.end());
  return levels;
}

/// Of the Kronecker product: every product by itself.
inline Levels product(const Levels& a, const Levels& b) {
  Levels levels;
  for (const Real x : a.non_zero)
    for (const Real y : b.non_zero) levels.non_zero.push_back(x * y);
  std::sort(levels.non_zero.begin(), levels.non_zero.end());
  levels.num_zeros = a.size() * b.size() - levels.non_zero.size();
  return levels;
}

/// -sum p ln p of the eigenvalues scaled to sum 1.
inline Real entropy(const Levels& levels) {
  Real sum = 0, entropy = 0;
  for (const Real level : levels.non_zero) sum += level;
  for (const Real level : levels.non_zero) entropy -= level / sum * std::log(level / sum);
  return entropy;
}

/// ln sum exp(-beta lambda) over all of them, the zeros too.
inline Real log_partition(const Levels& levels, Real beta) {
  Real sum = static_cast<Real>(levels.num_zeros);
  for (const Real level : levels.non_zero) sum += std::exp(-beta * level);
  return std::log(sum);
}

/// Over the non-zero ones.
struct Canonical {
  Real log_partition = 0, internal_energy = 0, heat_capacity = 0, entropy = 0;
  Real second_moment = 0;  ///< of x = beta (lambda - smallest)

  Canonical(const Levels& levels, Real beta) {
    const Real smallest = levels.non_zero.front();
    Real z = 0;
    for (const Real level : levels.non_zero) z += std::exp(-beta * (level - smallest));
    log_partition = std::log(z) - beta * smallest;
    for (const Real level : levels.non_zero) {
      const Real p = std::exp(-beta * (level - smallest)) / z, x = beta * (level - smallest);
      internal_energy += p * level;
      second_moment += p * x * x;
      entropy -= p * std::log(p);
    }
    for (const Real level : levels.non_zero) {
      const Real p = std::exp(-beta * (level - smallest)) / z, off = beta * (level - internal_energy);
      heat_capacity += p * off * off;
    }
  }
};

}  // namespace spectrace::plain
