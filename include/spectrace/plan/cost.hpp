#pragma once

#include <cstdint>

#include "spectrace/measure/choice.hpp"
#include "spectrace/model/description.hpp"

namespace spectrace {

/// Floating-point operations of one prompt through all layers, an estimate from the sizes, with those of the analyses;
/// a multiplication and an addition count two. num_block_parameters: of all layers, which is the same for every prompt.
double prompt_flops(const ModelDescription& model, double num_block_parameters, const AnalysisChoice& analyses,
                    std::int64_t num_tokens);

/// Weights of the model, from its sources: parameters in total, and in all layers; of no family all that is stored.
std::int64_t num_parameters(const ModelDescription& model);
std::int64_t num_block_parameters(const ModelDescription& model);

}  // namespace spectrace
