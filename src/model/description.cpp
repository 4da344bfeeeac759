#include "spectrace/model/description.hpp"

#include <algorithm>
#include <numeric>

#include "spectrace/model/layer_parts.hpp"

namespace spectrace {
namespace {

class Collector {
 public:
  void add(const std::optional<TensorSource>& source) {
    if (source) add(*source);
  }
  void add(const TensorSource& source) {
    if (!source.tensor.empty()) sources_.push_back(&source);
  }
  void add(const std::optional<LinearSource>& source) {
    if (source) add(*source);
  }
  void add(const LinearSource& source) {
    add(source.weight);
    add(source.bias);
  }
  void add(const std::optional<NormSource>& source) {
    if (!source) return;
    add(source->weight);
    add(source->bias);
  }
  void add(const std::optional<XieluSource>& source) {
    if (!source) return;
    for (const TensorSource* number : {&source->alpha_p, &source->alpha_n, &source->beta, &source->eps}) add(*number);
  }
  void add(const LayerSources& layer) {
    for_each_part(
        layer, [&](MatrixRole, const LinearSource& linear) { add(linear); }, [&](const auto& part) { add(part); });
    if (const auto& latent = layer.latent) {
      for (const auto* matrix : {&latent->w_dq, &latent->w_uq}) add(*matrix);
      for (const auto* matrix : {&latent->w_dkv, &latent->w_kr, &latent->w_uk, &latent->w_uv}) add(*matrix);
    }
    for (const ExpertSources& expert : layer.experts) {
      if (expert.gate) add(expert.gate->whole);
      add(expert.up.whole);
      add(expert.down.whole);
    }
  }
  std::vector<const TensorSource*> take() { return std::move(sources_); }

 private:
  std::vector<const TensorSource*> sources_;
};

}  // namespace

std::vector<std::int64_t> TensorSource::canonical_shape() const {
  auto canonical = shape;
  if (transposed) std::swap(canonical[0], canonical[1]);
  if (!rows.empty())
    canonical[0] = std::accumulate(rows.begin(), rows.end(), std::int64_t{0},
                                   [](std::int64_t sum, const RowRange& range) { return sum + range.count; });
  if (!stacked.empty()) canonical.insert(canonical.begin(), static_cast<std::int64_t>(stacked.size()) + 1);
  return canonical;
}

std::vector<const TensorSource*> all_sources(const LayerSources& layer) {
  Collector collector;
  collector.add(layer);
  return collector.take();
}

const TensorInfo* ModelDescription::find_tensor(const std::string& name) const {
  const auto found = std::lower_bound(tensors.begin(), tensors.end(), name,
                                      [](const TensorInfo& tensor, const std::string& n) { return tensor.name < n; });
  return found == tensors.end() || found->name != name ? nullptr : &*found;
}

std::vector<const TensorSource*> ModelDescription::all_sources() const {
  Collector collector;
  collector.add(embedding.token);
  collector.add(embedding.position);
  collector.add(embedding.norm);
  collector.add(embedding.project_in);
  for (const LayerSources& layer : layers) collector.add(layer);
  collector.add(embedding.final_norm);
  collector.add(embedding.project_out);
  collector.add(embedding.unembedding_bias);
  if (embedding.has_unembedding) collector.add(embedding.unembedding);
  return collector.take();
}

}  // namespace spectrace
