#include "spectrace/work/layer_stream.hpp"

#include <atomic>
#include <functional>
#include <utility>

#include "spectrace/core/parallel.hpp"
#include "spectrace/core/stage_times.hpp"
#include "spectrace/plan/cost.hpp"
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

void LayerStream::read(Slot& slot, std::int64_t layer, LayerNeeds needs) const {
  const StageTimer timer(Stage::reading);
  const SideStream beside(device_);
  const std::uint64_t read_before = model_.store.bytes_read();
  LoadedLayer& loaded = slot.layer;
  const ModelDescription& description = model_.description;
  const std::string here = "layer " + std::to_string(layer);
  needs.attention |= needs.values;
  // Spectra are of what is stored, whatever type the forward pass has.
  const bool is_wider = type_ == ComputeType::float32 && stores_float64(layer);
  const auto read_attention = [&] {
    slot.tried.attention = true;
    AttentionWeights attention;
    loaded.attention_error = error_of(here, [&] {
      attention = read_attention_weights(description, model_.store, layer, is_wider ? ComputeType::float64 : type_);
    });
    return attention;
  };
  AttentionWeights attention;
  const bool is_new = needs.weights && !slot.tried.weights;
  if (is_new) {
    slot.tried.weights = true;
    needs.attention = true;  // the batches' measurements ask for both
    if (is_wider && !slot.tried.attention) {
      attention = read_attention();
      if (!loaded.attention_error) loaded.sliced = slice_weights(description, attention, slicing_);
    }
    const AttentionWeights* const wide = is_wider && attention.w_q.defined() ? &attention : nullptr;
    // What a device can widen by itself goes there as it is stored: half of the bytes, of most checkpoints.
    const Widening widening = device_.is_host() ? Widening::here : Widening::later;
    loaded.weights_error =
        error_of(here, [&] { loaded.weights = read_layer(description, model_.store, layer, type_, wide, widening); });
  }
  // The host's copy is dropped once the device has its own, but for what spectra are taken of.
  std::optional<AttentionWeights> on_host;
  if (is_new && loaded.weights) {
    loaded.weights_error = error_of(here, [&] {
      if (!is_wider && !slot.tried.attention) on_host = widened(attention_weights(*loaded.weights), type_);
      loaded.weights = on_device(*loaded.weights, device_, type_);
      device_.wait();  // from here on it is there for the stream of the forward pass
    });
    if (loaded.weights_error) loaded.weights.reset();
  }
  // What needs the attention matrices alone must fail of these alone, whatever else of the layer cannot be read.
  if (needs.attention && !slot.tried.attention) {
    if (on_host) {
      slot.tried.attention = true;
      attention = *on_host;
    } else {
      attention = read_attention();
    }
    if (!loaded.attention_error) loaded.sliced = slice_weights(description, attention, slicing_);
  }
  count_bytes(Stage::reading, model_.store.bytes_read() - read_before);
  if (needs.values && !slot.tried.values && !loaded.attention_error) {
    const StageTimer spectra_timer(Stage::heads);
    slot.tried.values = true;
    loaded.values_error = error_of(here + ", W_V of a head", [&] { loaded.values = value_spectra(loaded.sliced); });
    count_flops(Stage::heads, value_spectra_flops(description));
  }
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

/// Whether one of the layer's attention matrices is stored in more than float32 holds.
bool LayerStream::stores_float64(std::int64_t layer) const {
  const LayerSources& sources = model_.description.layers[static_cast<std::size_t>(layer)];
  const auto is_wide = [&](const LinearSource& source) {
    const TensorInfo* info = model_.store.find(source.weight.tensor);
    return info != nullptr && info->type == StorageType::float64;
  };
  return is_wide(sources.w_q) || is_wide(sources.w_k) || is_wide(sources.w_v) || is_wide(sources.w_o);
}

std::int64_t LayerStream::size_bytes(std::int64_t layer) const {
  const std::int64_t bytes = layer_size_bytes(model_.description, layer, type_);
  return stores_float64(layer) && type_ == ComputeType::float32 ? 2 * bytes : bytes;
}

}  // namespace spectrace
