#pragma once

#include "spectrace/model/description.hpp"

namespace spectrace {

/// Says where the attention matrices of a description of sizes alone would lie, in every layer.
inline void set_plain_layers(ModelDescription& model) {
  const auto matrix = [](const char* name, std::int64_t rows, std::int64_t columns) {
    LinearSource source;
    source.weight.tensor = name;
    source.weight.shape = {rows, columns};
    return source;
  };
  LayerSources layer;
  const std::int64_t queries = model.num_heads * model.head_dim, keys = model.num_kv_heads * model.head_dim;
  layer.w_q = matrix("q", queries, model.hidden_size);
  layer.w_k = matrix("k", keys, model.hidden_size);
  layer.w_v = matrix("v", keys, model.hidden_size);
  layer.w_o = matrix("o", model.hidden_size, queries);
  model.layers.assign(static_cast<std::size_t>(model.num_layers), layer);
}

}  // namespace spectrace
