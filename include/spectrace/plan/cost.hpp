#pragma once

#include <cstdint>

#include "spectrace/model/description.hpp"

namespace spectrace {

/// Floating-point operations, estimates from the sizes; a multiplication and an addition count two.
/// Of singular values: the four attention matrices of one layer; every head's slices; the unembedding.
double matrices_flops(const ModelDescription& model);
double heads_flops(const ModelDescription& model);
/// Of these, every key/value head's slice of W_V: prompts need them too.
double value_spectra_flops(const ModelDescription& model);
double unembedding_flops(const ModelDescription& model);

/// One prompt through all layers, with its statistics (the graph Laplacians' eigenvalues among them).
/// num_block_parameters: of all layers, which is the same for every prompt.
double prompt_flops(const ModelDescription& model, double num_block_parameters, std::int64_t num_tokens);

/// Of these, in one layer: the eigenvalues of every head's token graph.
double sheaf_flops(const ModelDescription& model, std::int64_t num_tokens);

/// Weights of the model, from its sources: parameters in total, in all layers, and in one.
std::int64_t num_parameters(const ModelDescription& model);
std::int64_t num_block_parameters(const ModelDescription& model);
std::int64_t num_layer_parameters(const ModelDescription& model, std::int64_t layer);

}  // namespace spectrace
