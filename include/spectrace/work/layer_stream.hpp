#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "spectrace/measure/slicing.hpp"
#include "spectrace/measure/value_spectra.hpp"
#include "spectrace/model/layer_weights.hpp"
#include "spectrace/plan/open_model.hpp"

namespace spectrace {

/// What is needed of a layer.
struct LayerNeeds {
  bool weights = false;       ///< all of them, for the forward pass
  MatrixRoles matrices = {};  ///< for their spectra, as the model uses them
  MatrixRoles sliced = {};    ///< for their spectra, as the job's slicing cuts them
  bool values = false;        ///< the singular values of every head's W_V
};

/// A layer as it was read: each part is there, or why it is not.
struct LoadedLayer {
  std::optional<LayerWeights> weights;  // on the stream's device
  LayerMatrices matrices, sliced;  // in the host's memory: as the model uses them, and as the job's slicing cuts them
  std::vector<ValueSpectrum> values;  // [num_heads]
  std::optional<std::string> weights_error, values_error;
  std::map<MatrixRole, std::string> matrix_errors;

  /// Why one of these matrices is not there.
  std::optional<std::string> find_error(const MatrixRoles& roles) const;
  bool is_good() const { return !weights_error && !values_error && matrix_errors.empty(); }
};

/// Gives the layers of one model, works ahead on the next one, and keeps those that it may: so that a rank that passes
/// the same layers again need not read them again.
class LayerStream {
 public:
  /// @pre the model outlives the stream.
  LayerStream(const OpenModel& model, ComputeType type, Slicing slicing, const Device& device = Device::cpu());
  ~LayerStream();

  const OpenModel& model() const { return model_; }
  ComputeType type() const { return type_; }
  const Device& device() const { return device_; }

  /// What may stay from now on; what is there beyond it goes.
  void may_keep(std::int64_t bytes);
  /// Reads what is needed and not there yet. Never throws for what is wrong with the checkpoint: that is in the errors.
  /// Valid until release or may_keep.
  const LoadedLayer& load(std::int64_t layer, LayerNeeds needs);
  /// The layer is not needed for now.
  void release(std::int64_t layer);
  bool is_loaded(std::int64_t layer) const { return layers_.contains(layer); }
  /// Meanwhile brings the layer's bytes from the disk into the host's cache; or, where the device leaves the host's
  /// cores free, reads it, brings it to the device beside what that is doing, and takes the spectra that `needs` asks
  /// for. A hint: results do not depend on it.
  void read_ahead(std::int64_t layer, LayerNeeds needs);

 private:
  struct Slot {
    LoadedLayer layer;
    LayerNeeds tried = {};
    bool stays = false;
  };
  class ReadAhead;

  /// What is needed and not there yet. Another thread may load other layers meanwhile.
  void read(Slot& slot, std::int64_t layer, LayerNeeds needs) const;
  /// Of these, those that were not tried before.
  void read_matrices_of(Slot& slot, std::int64_t layer, const MatrixRoles& roles) const;
  /// `roles`: those whose matrices the host shall have, beside the device.
  void read_weights(Slot& slot, std::int64_t layer, const MatrixRoles& roles) const;
  /// Cuts these as the job's slicing says; what is cut together is there together, or fails together.
  void slice(LoadedLayer& loaded, const MatrixRoles& roles) const;
  void take_values(Slot& slot, std::int64_t layer) const;
  /// The type in which matrices are read for their spectra, which are of what is stored, whatever the forward pass has.
  ComputeType type_of_matrices(std::int64_t layer) const;
  std::int64_t size_bytes(std::int64_t layer) const;

  const OpenModel& model_;
  ComputeType type_;
  Slicing slicing_;
  Device device_;
  std::map<std::int64_t, Slot> layers_;
  std::int64_t keep_bytes_ = 0, kept_bytes_ = 0;
  std::unique_ptr<ReadAhead> ahead_;
};

}  // namespace spectrace
