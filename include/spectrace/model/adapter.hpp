#pragma once

#include <map>
#include <string>
#include <vector>

#include "spectrace/checkpoint/tensor_store.hpp"
#include "spectrace/core/json.hpp"
#include "spectrace/model/description.hpp"

namespace spectrace {

class ConfigFields;

/// One family of models: the file src/model/adapters/<model_type>.cpp, which defines describe_<model_type> and
/// class_of_<model_type>. There is nothing else to do for a new one but its cases for the tests
/// (docs/adding-a-family.md). One whose block is not known says where matrices lie, and no more (FamilyLimits).
/// Reads config.json (old and new style of the hub) and the tensor names. A config field that would change the
/// mathematics and is not understood is an InputError that names it.
struct Adapter {
  const char* model_type;  ///< config.json's model_type
  FamilyClass (*class_of)();
  ModelDescription (*describe)(ConfigFields& fields, const TensorStore& store);
};

/// Describes the model by its config and the names of its tensors: picks the adapter by model_type (else by
/// architectures), refuses quantized checkpoints. Whether the tensors are there is not looked at.
/// @throws InputError (model): unknown family (with the list of those known), a field that is not understood.
ModelDescription read_description(const JsonNode& config, const TensorStore& store);

/// What is wrong with tensors that a description names: by name, "tensor 'x' is absent" or "tensor 'x' has shape [3072,
/// 767], expected [3072, 768] (from config.json …)".
using SourceProblems = std::map<std::string, std::string>;
SourceProblems source_problems(const ModelDescription& description, const TensorStore& store);
/// All of them (the first, if there are many) in one message. @pre there are some.
InputError source_error(const ModelDescription& description, const TensorStore& store, const SourceProblems& problems);

/// read_description, where nothing is wrong with any tensor. @throws InputError (model) as read_description does, and
/// source_error.
ModelDescription describe_model(const JsonNode& config, const TensorStore& store);

/// Tensors of the other parts of a model of more than text.
std::vector<std::string> tensors_of_other_parts(const ModelDescription& description, const TensorStore& store);
/// The class that the config's architectures name first; empty if they name none.
std::string architecture_of(const JsonNode& config);

/// Whether the config's model_type (else its architectures) names a family that there is an adapter for. False too
/// where it says nothing usable.
bool names_known_family(const JsonNode& config);

/// What checkpoints carry and no model learns: causal masks, their values, rotary tables. A bias of such a name is none
/// of them: it has one dimension.
bool is_buffer(const TensorInfo& tensor);

/// A family, as users know it.
struct FamilyInfo {
  std::string model_type, class_name;
  FamilyLimits limits;
  std::vector<std::string>
      part_of;  ///< model types of those of more than text that have it as their text part by default
};
std::vector<FamilyInfo> families();
/// model_type of every family that there is an adapter for.
std::vector<std::string> known_families();

/// Floating tensors of the checkpoint that the description does not use (rotary buffers, masks and mtp_tensors are not
/// listed, nor what belongs to the other parts of a model of more than text).
std::vector<std::string> unused_tensors(const ModelDescription& description, const TensorStore& store);

/// Tensors of a head that predicts further tokens (multi-token prediction), where the config says that there is one.
/// The model's forward pass does not use it.
std::vector<std::string> mtp_tensors(const ModelDescription& description, const TensorStore& store);

}  // namespace spectrace
