#pragma once

#include <string>

#include "../sources.hpp"

namespace spectrace {

/// A layer with the names that models from fairseq have (OPT, XGLM): q_proj, k_proj, v_proj, out_proj, fc1, fc2,
/// self_attn_layer_norm, final_layer_norm. `base` is "layers.0.".
LayerSources fairseq_layer(const SourceNames& names, const std::string& base, const Dim& hidden, const Dim& inner,
                           Bias bias);

}  // namespace spectrace
