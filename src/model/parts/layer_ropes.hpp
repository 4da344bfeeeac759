#pragma once

#include "llama_like.hpp"

namespace spectrace {

/// Rotary settings of the layers that see everything, and of those with a window (Gemma-3, OLMo 3).
struct LayerRopes {
  RopeReading full, sliding;
};

/// New style: rope_parameters {full_attention, sliding_attention}. Old style: rope_scaling, which scales the layers
/// without a window alone. The thetas are those outside of both.
LayerRopes read_layer_ropes(ConfigFields& fields, double full_theta, double sliding_theta, const LlamaLike& llama);

/// set_attention, with the rotary settings of each layer's kind.
void set_attention(LlamaLike& llama, const LayerRopes& ropes, const std::vector<bool>& sliding);

}  // namespace spectrace
