#pragma once

#include <string>
#include <vector>

#include "spectrace/checkpoint/tensor_store.hpp"
#include "spectrace/core/json.hpp"
#include "spectrace/model/description.hpp"

namespace spectrace {

/// One family of models. A new family is one file under src/model/adapters and one line in src/model/adapter.cpp.
/// Reads config.json (old and new style of the hub) and the tensor names. A config field that would change the
/// mathematics and is not understood is an InputError that names it.
struct Adapter {
  const char* model_type;  ///< config.json's model_type
  ModelDescription (*describe)(const JsonNode& config, const TensorStore& store);
};

/// Describes the model: picks the adapter by model_type (else by architectures), refuses quantized checkpoints, and
/// holds every source against the checkpoint's header.
/// @throws InputError (model): unknown family (with the list of those known), absent tensor, wrong shape ("tensor 'x'
/// has shape [3072, 767], expected [3072, 768] (from config.json ffn_dim, hidden_size)"), several in one message.
ModelDescription describe_model(const JsonNode& config, const TensorStore& store);

/// model_type of every family that there is an adapter for.
std::vector<std::string> known_families();

/// Floating tensors of the checkpoint that the description does not use (rotary buffers and masks are not listed).
std::vector<std::string> unused_tensors(const ModelDescription& description, const TensorStore& store);

}  // namespace spectrace
