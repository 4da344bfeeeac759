#include "spectrace/work/layer_stream.hpp"

#include <atomic>
#include <functional>
#include <utility>

#include "spectrace/core/parallel.hpp"
#include "spectrace/core/stage_times.hpp"
#include "spectrace/model/layer_parts.hpp"
#include "spectrace/work/error_of.hpp"

namespace spectrace {

/// Works beside the computing thread on a layer that nobody has asked for yet.
class LayerStream::ReadAhead {
 public:
  ~ReadAhead() { stop_ = true; }

  void warm(const TensorStore& store, std::vector<const TensorInfo*> tensors) {
    take(-1);
    thread_.begin([this, &store, tensors = std::move(tensors)] {
      for (const TensorInfo* tensor : tensors) store.read_ahead(*tensor, stop_);
    });
  }
  void load(std::int64_t layer, std::function<void(Slot&)> read) {
    take(-1);
    layer_ = layer;
    thread_.begin([this, read = std::move(read)] { read(slot_.emplace()); });
  }
  /// Ends what is under way: at once if it only warms the cache. The layer, if it is the one that was loaded.
  std::optional<Slot> take(std::int64_t layer) {
    stop_ = true;
    thread_.wait();
    stop_ = false;
    auto slot = std::exchange(slot_, std::nullopt);
    return layer == layer_ ? std::move(slot) : std::nullopt;
  }

 private:
  std::atomic<bool> stop_{false};
  std::int64_t layer_ = -1;
  std::optional<Slot> slot_;
  SideThread thread_;  // the last member: it ends before what it uses
};

LayerStream::LayerStream(const OpenModel& model, ComputeType type, Slicing slicing, const Device& device)
    : model_(model), type_(type), slicing_(slicing), device_(device), ahead_(std::make_unique<ReadAhead>()) {}

LayerStream::~LayerStream() {
  try {
    device_.wait();  // layers lie in the memory of the stream that they came by
  } catch (const std::exception&) {
    // The work that it was has failed of it before.
  }
}

void LayerStream::may_keep(std::int64_t bytes) {
  ahead_->take(-1);
  keep_bytes_ = bytes;
  if (kept_bytes_ <= keep_bytes_) return;
  device_.wait();
  layers_.clear();
  kept_bytes_ = 0;
}

const LoadedLayer& LayerStream::load(std::int64_t layer, LayerNeeds needs) {
  const auto [place, is_new] = layers_.try_emplace(layer);
  Slot& slot = place->second;
  // What failed ahead may have lacked memory that is free now.
  if (auto ahead = ahead_->take(layer); ahead && is_new && ahead->layer.is_good()) slot = std::move(*ahead);
  read(slot, layer, needs);
  return slot.layer;
}

std::optional<std::string> LoadedLayer::find_error(const MatrixRoles& roles) const {
  for (const MatrixRole role : roles)
    if (const auto error = matrix_errors.find(role); error != matrix_errors.end()) return error->second;
  return std::nullopt;
}

void LayerStream::read(Slot& slot, std::int64_t layer, LayerNeeds needs) const {
  const StageTimer timer(Stage::reading);
  const SideStream beside(device_);
  const std::uint64_t read_before = model_.store.bytes_read();
  if (needs.values) add_roles(needs.sliced, {MatrixRole::w_v});
  needs.sliced = roles_to_slice(model_.description, needs.sliced, slicing_);
  add_roles(needs.matrices, needs.sliced);
  if (needs.weights && !slot.tried.weights) {
    // What the forward pass has in a narrower type is converted of what spectra have in a wider one.
    if (type_of_matrices(layer) != type_) read_matrices_of(slot, layer, needs.matrices);
    read_weights(slot, layer, needs.matrices);
  }
  // What needs some matrices alone must fail of these alone, whatever else of the layer cannot be read.
  read_matrices_of(slot, layer, needs.matrices);
  slice(slot.layer, needs.sliced);
  count_bytes(Stage::reading, model_.store.bytes_read() - read_before);
  if (needs.values) take_values(slot, layer);
}

void LayerStream::read_matrices_of(Slot& slot, std::int64_t layer, const MatrixRoles& roles) const {
  LoadedLayer& loaded = slot.layer;
  MatrixRoles open;
  for (const MatrixRole role : roles)
    if (!has_role(slot.tried.matrices, role)) open.push_back(role);
  if (open.empty()) return;
  add_roles(slot.tried.matrices, open);
  if (loaded.weights && device_.is_host() && type_of_matrices(layer) == type_) {
    const LayerMatrices there = matrices_of(*loaded.weights, open);
    for (const MatrixRole role : open) loaded.matrices.set(role, there.at(role));
    return;
  }
  const std::string here = "layer " + std::to_string(layer);
  const ReadMatrices read = read_matrices(model_.description, model_.store, layer, open, type_of_matrices(layer));
  for (const MatrixRole role : open) {
    const auto error = read.errors.find(role);
    if (error == read.errors.end())
      loaded.matrices.set(role, read.matrices.at(role));
    else if (const auto text = error_of(here, [&] { std::rethrow_exception(error->second); }))
      loaded.matrix_errors[role] = *text;
  }
}

void LayerStream::read_weights(Slot& slot, std::int64_t layer, const MatrixRoles& roles) const {
  slot.tried.weights = true;
  LoadedLayer& loaded = slot.layer;
  const bool is_wider = type_of_matrices(layer) != type_;
  // What a device can widen by itself goes there as it is stored: half of the bytes, of most checkpoints.
  const Widening widening = device_.is_host() ? Widening::here : Widening::later;
  loaded.weights_error = error_of("layer " + std::to_string(layer), [&] {
    const LayerMatrices* const wide = is_wider ? &loaded.matrices : nullptr;
    const LayerWeights read = read_layer(model_.description, model_.store, layer, type_, wide, widening);
    LayerMatrices on_host;
    const bool keeps_on_host = !is_wider && !device_.is_host();
    if (keeps_on_host) on_host = widened(matrices_of(read, roles), type_);
    loaded.weights = on_device(read, device_, type_);
    device_.wait();  // from here on it is there for the stream of the forward pass
    // The host's copy goes now that the device has its own, but for what spectra are taken of.
    for (const MatrixRole role : roles) {
      if (!keeps_on_host || loaded.matrices.has(role)) continue;
      loaded.matrices.set(role, on_host.at(role));
      add_roles(slot.tried.matrices, {role});
    }
  });
  if (loaded.weights_error) loaded.weights.reset();
}

void LayerStream::slice(LoadedLayer& loaded, const MatrixRoles& roles) const {
  LayerMatrices open;
  bool any = false;
  for (const MatrixRole role : roles) {
    const MatrixRoles together = roles_to_slice(model_.description, {role}, slicing_);
    if (const auto error = loaded.find_error(together)) {
      loaded.matrix_errors[role] = *error;
    } else if (!loaded.sliced.has(role)) {
      open.set(role, loaded.matrices.at(role));
      any = true;
    }
  }
  if (!any) return;
  const LayerMatrices sliced = slice_matrices(model_.description, open, slicing_);
  for (const MatrixRole role : roles)
    if (sliced.has(role)) loaded.sliced.set(role, sliced.at(role));
}

void LayerStream::take_values(Slot& slot, std::int64_t layer) const {
  LoadedLayer& loaded = slot.layer;
  if (slot.tried.values) return;
  slot.tried.values = true;
  loaded.values_error = loaded.find_error({MatrixRole::w_v});
  if (loaded.values_error) return;
  const StageTimer timer(Stage::value_spectra);
  loaded.values_error = error_of("layer " + std::to_string(layer) + ", W_V of a head", [&] {
    loaded.values = value_spectra(model_.description, loaded.sliced.at(MatrixRole::w_v), slicing_);
  });
  count_flops(Stage::value_spectra, value_spectra_flops(model_.description));
}

void LayerStream::release(std::int64_t layer) {
  const auto found = layers_.find(layer);
  if (found == layers_.end() || found->second.stays) return;
  const LoadedLayer& loaded = found->second.layer;
  // The first ones stay: of layers that are passed in turn, the last used is what is needed last.
  if (loaded.is_good() && loaded.weights && kept_bytes_ + size_bytes(layer) <= keep_bytes_) {
    found->second.stays = true;
    kept_bytes_ += size_bytes(layer);
    return;
  }
  device_.wait();  // its memory goes to the layers that come beside the forward pass
  layers_.erase(found);
}

void LayerStream::read_ahead(std::int64_t layer, LayerNeeds needs) {
  constexpr std::uint64_t kWorthwhileBytes = 4 << 20;
  if (is_loaded(layer)) return;
  if (device_.leaves_host_free())
    return ahead_->load(layer, [this, layer, needs](Slot& slot) { read(slot, layer, needs); });
  ModelDescription one;
  one.layers.push_back(model_.description.layers[static_cast<std::size_t>(layer)]);
  std::vector<const TensorInfo*> tensors;
  std::uint64_t bytes = 0;
  for (const TensorSource* source : one.all_sources()) {
    const TensorInfo* info = model_.store.find(source->tensor);
    if (info == nullptr) continue;
    tensors.push_back(info);
    bytes += info->size_bytes;
  }
  if (bytes >= kWorthwhileBytes) ahead_->warm(model_.store, std::move(tensors));
}

ComputeType LayerStream::type_of_matrices(std::int64_t layer) const {
  return exceeds_float32(model_.description, layer) ? ComputeType::float64 : type_;
}

std::int64_t LayerStream::size_bytes(std::int64_t layer) const {
  const std::int64_t bytes = layer_size_bytes(model_.description, layer, type_);
  return type_of_matrices(layer) != type_ ? 2 * bytes : bytes;
}

}  // namespace spectrace
