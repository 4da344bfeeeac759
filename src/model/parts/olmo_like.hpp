#pragma once

#include "llama_like.hpp"

namespace spectrace {

/// OLMo-2's layer, and OLMo 3's: norms on the outputs of attention and MLP, and on all queries and all keys together.
LayerSources olmo2_layer(const LlamaLike& llama, const SourceNames& names, std::int64_t layer,
                         const LlamaBiases& biases);

}  // namespace spectrace
