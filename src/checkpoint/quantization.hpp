#pragma once

#include <optional>
#include <string>
#include <vector>

#include "spectrace/checkpoint/tensor_info.hpp"
#include "spectrace/core/json.hpp"

namespace spectrace {

/// quantization_config or compression_config, of the model or of its text_config; nothing if there is none.
std::optional<JsonNode> find_quantization(const JsonNode& config);
/// Its quant_method; empty if it names none.
std::string quant_method(const JsonNode& quantization);
/// "quant_method \"gptq\"", for messages.
std::string method_text(const JsonNode& quantization);

/// Whether a quantization_config is left over from another form of the checkpoint: all that is stored are plain
/// floating numbers, and buffers.
bool is_stale(const JsonNode& quantization, const std::vector<TensorInfo>& tensors);

}  // namespace spectrace
