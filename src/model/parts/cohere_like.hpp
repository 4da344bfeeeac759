#pragma once

#include "llama_like.hpp"

namespace spectrace {

/// What Cohere's models share: Llama with LayerNorm without a bias, parallel residual on one norm, rotary on pairs of
/// neighbours, and scaled logits.
LlamaLike read_cohere_like(ConfigFields& fields, double default_theta);
LayerSources cohere_layer(const LlamaLike& llama, const SourceNames& names, std::int64_t layer, Bias attention);

}  // namespace spectrace
