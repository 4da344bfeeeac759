#pragma once

#include <string>

#include "../config_fields.hpp"
#include "../sources.hpp"

namespace spectrace {

/// What GPT-J and CodeGen share: sizes, a parallel residual on one norm, rotary on pairs of neighbours in the first
/// rotary_dim dimensions of each head, a head with a bias.
struct GptjLike {
  ModelDescription model;  ///< its layers are the family's
  Dim hidden, vocab, inner;
};

GptjLike read_gptj_like(ConfigFields& fields);
/// A layer without its q, k and v. `base` is "h.0.".
LayerSources gptj_layer(const GptjLike& gptj, const SourceNames& names, const std::string& base);
void set_gptj_embedding(GptjLike& gptj, const SourceNames& names, bool tied);

}  // namespace spectrace
