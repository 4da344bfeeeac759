#include "spectrace/measure/weight_spectra.hpp"

#include <gtest/gtest.h>

#include <string>

#include "spectrace/numerics/numerical_error.hpp"

namespace spectrace {
namespace {

/// Two heads of two dimensions, one of keys and values for both; every matrix of ones.
ModelDescription small_model() {
  ModelDescription model;
  model.hidden_size = 4;
  model.num_heads = 2;
  model.num_kv_heads = 1;
  model.head_dim = 2;
  model.num_layers = 1;
  return model;
}

SlicedWeights ones() {
  SlicedWeights weights;
  weights.matrices = {at::ones({4, 4}, at::kDouble), at::ones({2, 4}, at::kDouble), at::ones({2, 4}, at::kDouble),
                      at::ones({4, 4}, at::kDouble)};
  weights.value_rows = {{0, 2}, {0, 2}};
  return weights;
}

template <typename Measure>
std::string error_of(const Measure& measure) {
  try {
    measure();
    return "";
  } catch (const NumericalError& error) {
    return error.what();
  }
}

TEST(WeightSpectra, an_error_names_its_matrix) {
  for (std::size_t matrix = 0; matrix < kMatrixNames.size(); ++matrix) {
    SlicedWeights weights = ones();
    weights.matrices[matrix] *= 0x1p1023;
    EXPECT_EQ(error_of([&] { measure_matrices(weights); }),
              std::string(kMatrixNames[matrix]) +
                  ": the spectral norm is beyond the range of float64, though every entry is in it");
  }
}

TEST(WeightSpectra, an_error_names_its_head) {
  SlicedWeights weights = ones();
  const auto values = value_spectra(weights);
  weights.matrices[0].narrow(0, 2, 2) *= 0x1p1023;
  EXPECT_EQ(error_of([&] { measure_heads(small_model(), weights, Slicing::correct, values); }),
            "W_Q of head 1: the spectral norm is beyond the range of float64, though every entry is in it");
}

}  // namespace
}  // namespace spectrace
