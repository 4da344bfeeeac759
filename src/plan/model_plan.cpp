#include "spectrace/plan/model_plan.hpp"

#include <algorithm>
#include <numeric>
#include <set>
#include <span>

#include "spectrace/core/hash.hpp"
#include "spectrace/numerics/device.hpp"
#include "spectrace/numerics/version.hpp"
#include "spectrace/plan/cost.hpp"

namespace spectrace {

std::string PreparedSet::digest() const {
  Sha256 sha;
  for (const auto& prompt : prompts)
    sha.update(Json{prompt.id, prompt.token_ids, prompt.error}.dump(-1, ' ', false, Json::error_handler_t::replace) +
               "\n");
  return sha.hex_digest();
}

namespace {

/// A value as messages show it: a list by its ends, a digest by its first digits.
std::string shown_value(const std::string& value) {
  constexpr std::size_t kMostShown = 40, kDigitsShown = 8;
  if (value.size() <= kMostShown) return value;
  const Json list = Json::parse(value, nullptr, /*allow_exceptions=*/false);
  if (list.is_array() && !list.empty())
    return std::to_string(list.size()) + " values from " + list.front().dump() + " to " + list.back().dump();
  return value.substr(0, kDigitsShown) + "...";
}

constexpr const char *kTokensPerBatch = "tokens_per_batch", *kDevice = "device";

const std::string* find(const Identity& identity, const std::string& name) {
  for (const auto& [what, value] : identity)
    if (what == name) return &value;
  return nullptr;
}

}  // namespace

std::vector<std::string> identity_differences(const Identity& before, const Identity& now) {
  std::vector<std::string> lines;
  for (const auto& [what, old_value] : before)
    for (const auto& [name, new_value] : now)
      if (name == what && new_value != old_value && what != kDevice)
        lines.push_back(what + ": was " + shown_value(old_value) + ", now " + shown_value(new_value));
  const bool both_have_prompts = find(before, kTokensPerBatch) != nullptr && find(now, kTokensPerBatch) != nullptr;
  const auto device_of = [](const Identity& identity) {
    const std::string* kind = find(identity, kDevice);
    return kind == nullptr ? Device::cpu().kind() : *kind;
  };
  if (both_have_prompts && device_of(before) != device_of(now))
    lines.push_back(std::string(kDevice) + ": was " + device_of(before) + ", now " + device_of(now));
  return lines;
}

std::string identity_to_json(const Identity& identity) {
  Json json = Json::array();
  for (const auto& [what, value] : identity) json.push_back({what, value});
  return json.dump();
}

Identity identity_from_json(const std::string& text) {
  Identity identity;
  JsonNode::parse_text(text, "identity", ErrorKind::io).for_each([&](const JsonNode& pair) {
    identity.emplace_back(pair.element(0).as_string(), pair.element(1).as_string());
  });
  return identity;
}

double ModelPlan::total_flops() const {
  return std::accumulate(units.begin(), units.end(), 0.0,
                         [](double sum, const Unit& unit) { return sum + unit.flops; });
}

std::vector<std::vector<std::size_t>> make_batches(const PreparedSet& set, std::int64_t tokens_per_batch) {
  std::vector<std::vector<std::size_t>> batches;
  std::int64_t used = 0;
  for (std::size_t i = 0; i < set.prompts.size(); ++i) {
    if (!set.prompts[i].error.empty()) continue;
    const auto length = static_cast<std::int64_t>(set.prompts[i].token_ids.size());
    if (batches.empty() || used + length > tokens_per_batch) {
      batches.emplace_back();
      used = 0;
    }
    batches.back().push_back(i);
    used += length;
  }
  return batches;
}

PlanOptions plan_options(const Job& job, const Json& config) {
  return {job.compute.dtype,      job.slicing,           job.compute.tokens_per_batch,
          job.beta.values(),      job.graph_eigenvalues, config.dump(-1, ' ', false, Json::error_handler_t::replace),
          job.compute.device_kind};
}

namespace {

/// The readable name with the first 64 bits of a SHA-256 over everything that the record's bits depend on: `facts`, and
/// for each prompt of a batch its number of tokens and their ids.
std::string make_key(const std::string& readable, const std::string& facts, const PreparedSet* set = nullptr,
                     const std::vector<std::size_t>& prompts = {}) {
  Sha256 sha;
  sha.update(facts);
  for (const std::size_t prompt : prompts) {
    const auto& ids = set->prompts[prompt].token_ids;
    const auto length = static_cast<std::int64_t>(ids.size());
    sha.update(std::as_bytes(std::span(&length, 1)));
    sha.update(std::as_bytes(std::span(ids)));
  }
  return readable + "-" + sha.hex_digest().substr(0, 16);
}

std::string text_of(const Json& facts) { return facts.dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string letters(const AnalysisChoice& analyses) {
  std::string which;
  if (analyses.attention) which += "a";
  if (analyses.sheaf) which += "s";
  if (analyses.residual) which += "r";
  return which;
}

}  // namespace

ModelPlan plan_model(const ModelDescription& model, const AnalysisChoice& analyses, std::vector<PreparedSet> sets,
                     const PlanOptions& options) {
  ModelPlan plan;
  plan.analyses = analyses;
  const std::string common = text_of({kNumericsVersion, options.config});
  const std::string of_weights = text_of({common, name(options.dtype), name(options.slicing)});
  const std::string of_unembedding =
      options.slicing == Slicing::as_published_float16 ? text_of({common, name(options.slicing)}) : common;
  for (std::int64_t layer = 0; layer < model.num_layers; ++layer) {
    const std::string number = std::to_string(layer);
    if (analyses.weights)
      plan.units.push_back(
          {UnitKind::matrices, make_key("matrices/" + number, of_weights), layer, 0, {}, 0, matrices_flops(model)});
    if (analyses.heads)
      plan.units.push_back(
          {UnitKind::heads, make_key("heads/" + number, of_weights), layer, 0, {}, 0, heads_flops(model)});
  }
  if (analyses.unembedding) {
    const auto shape = model.embedding.unembedding.canonical_shape();
    const auto parts = unembedding_parts(shape[0], shape[1]);
    for (const RowRange& rows : parts) {
      std::string readable = "unembedding";
      if (parts.size() > 1) readable += "/" + std::to_string(&rows - parts.data());
      plan.units.push_back({UnitKind::unembedding,
                            make_key(readable, of_unembedding),
                            -1,
                            0,
                            {},
                            0,
                            unembedding_part_flops(shape[0], shape[1], rows),
                            rows});
    }
  }

  if (!analyses.any_of_prompts()) sets.clear();
  Json prompt_facts = {of_weights, letters(analyses)};
  if (analyses.sheaf) prompt_facts.push_back({options.beta, options.graph_eigenvalues});
  if (!options.device_kind.empty()) prompt_facts.push_back(options.device_kind);
  const std::string of_prompts = text_of(prompt_facts);
  const auto block_parameters = static_cast<double>(num_block_parameters(model));
  for (std::size_t s = 0; s < sets.size(); ++s) {
    const auto batches = make_batches(sets[s], options.tokens_per_batch);
    for (std::size_t b = 0; b < batches.size(); ++b) {
      Unit unit{UnitKind::prompts, "", -1, s, batches[b], 0, 0};
      for (const std::size_t prompt : batches[b]) {
        const auto length = static_cast<std::int64_t>(sets[s].prompts[prompt].token_ids.size());
        unit.num_tokens += length;
        unit.flops += prompt_flops(model, block_parameters, length);
      }
      unit.key = make_key("prompts/" + sets[s].name + "/" + std::to_string(b), of_prompts, &sets[s], batches[b]);
      plan.units.push_back(std::move(unit));
    }
  }
  plan.sets = std::move(sets);
  return plan;
}

bool is_part(const Unit& unit, const ModelDescription& model) {
  return unit.kind == UnitKind::unembedding && unit.rows.count < model.embedding.unembedding.canonical_shape()[0];
}

TokenBatch batch_of(const ModelPlan& plan, const Unit& unit) {
  TokenBatch batch;
  batch.row_start.push_back(0);
  for (const std::size_t prompt : unit.prompts) {
    const auto& ids = plan.sets[unit.set].prompts[prompt].token_ids;
    batch.token_ids.insert(batch.token_ids.end(), ids.begin(), ids.end());
    batch.row_start.push_back(batch.num_tokens());
  }
  return batch;
}

namespace {

void add(std::set<std::string>& names, const TensorSource& source) {
  if (source.tensor.empty()) return;
  names.insert(source.tensor);
  names.insert(source.stacked.begin(), source.stacked.end());
}

/// What a forward pass reads of the model: not the way from hidden states to tokens.
std::vector<std::string> tensors_of_forward(ModelDescription used) {
  used.embedding.project_out.reset();
  used.embedding.unembedding_bias.reset();
  used.embedding.unembedding = used.embedding.token;
  std::set<std::string> names;
  for (const TensorSource* source : used.all_sources()) add(names, *source);
  return {names.begin(), names.end()};
}

}  // namespace

std::vector<std::string> tensors_of(const ModelDescription& model, const Unit& unit) {
  if (unit.kind == UnitKind::prompts) return tensors_of_forward(model);
  std::set<std::string> names;
  if (unit.kind == UnitKind::unembedding) {
    if (!is_part(unit, model)) add(names, model.embedding.unembedding);
  } else {
    const LayerSources& layer = model.layers[static_cast<std::size_t>(unit.layer)];
    for (const auto* linear : {&layer.w_q, &layer.w_k, &layer.w_v, &layer.w_o}) add(names, linear->weight);
  }
  return {names.begin(), names.end()};
}

std::vector<std::string> tensors_of_layers(const ModelDescription& model, std::int64_t first, std::int64_t last) {
  ModelDescription used = model;
  used.layers.assign(model.layers.begin() + first, model.layers.begin() + last);
  used.embedding.final_norm.reset();
  if (first > 0) used.embedding = EmbeddingSources();
  return tensors_of_forward(std::move(used));
}

}  // namespace spectrace
