#include "spectrace/plan/model_plan.hpp"

#include <algorithm>
#include <numeric>

#include "spectrace/core/hash.hpp"
#include "spectrace/plan/cost.hpp"

namespace spectrace {

std::string PreparedSet::digest() const {
  Json all = Json::array();
  for (const auto& prompt : prompts) all.push_back({prompt.id, prompt.token_ids, prompt.error});
  return sha256_hex(all.dump(-1, ' ', false, Json::error_handler_t::replace));
}

std::vector<std::string> identity_differences(const Identity& before, const Identity& now) {
  std::vector<std::string> lines;
  for (const auto& [what, old_value] : before)
    for (const auto& [name, new_value] : now)
      if (name == what && new_value != old_value) lines.push_back(what + ": was " + old_value + ", now " + new_value);
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

ModelPlan plan_model(const ModelDescription& model, const AnalysisChoice& analyses, std::vector<PreparedSet> sets,
                     std::int64_t tokens_per_batch) {
  ModelPlan plan;
  plan.analyses = analyses;
  for (std::int64_t layer = 0; layer < model.num_layers; ++layer) {
    const std::string number = std::to_string(layer);
    if (analyses.weights)
      plan.units.push_back({UnitKind::matrices, "matrices/" + number, layer, 0, {}, 0, matrices_flops(model)});
    if (analyses.heads) plan.units.push_back({UnitKind::heads, "heads/" + number, layer, 0, {}, 0, heads_flops(model)});
  }
  if (analyses.unembedding)
    plan.units.push_back({UnitKind::unembedding, "unembedding", -1, 0, {}, 0, unembedding_flops(model)});

  if (!analyses.any_of_prompts()) sets.clear();
  std::string which;
  if (analyses.attention) which += "a";
  if (analyses.sheaf) which += "s";
  if (analyses.residual) which += "r";
  for (std::size_t s = 0; s < sets.size(); ++s) {
    const auto batches = make_batches(sets[s], tokens_per_batch);
    for (std::size_t b = 0; b < batches.size(); ++b) {
      Unit unit{UnitKind::prompts,
                "prompts-" + which + "/" + sets[s].name + "/" + std::to_string(b),
                -1,
                s,
                batches[b],
                0,
                0};
      for (const std::size_t prompt : batches[b]) {
        const auto length = static_cast<std::int64_t>(sets[s].prompts[prompt].token_ids.size());
        unit.num_tokens += length;
        unit.flops += prompt_flops(model, length);
      }
      plan.units.push_back(std::move(unit));
    }
  }
  plan.sets = std::move(sets);
  return plan;
}

std::vector<std::vector<std::size_t>> assign_units(const std::vector<Unit>& units, const std::vector<std::size_t>& open,
                                                   int num_ranks) {
  SPECTRACE_ASSERT(num_ranks >= 1);
  std::vector<std::size_t> order = open;
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return units[a].flops > units[b].flops; });
  std::vector<std::vector<std::size_t>> shares(static_cast<std::size_t>(num_ranks));
  std::vector<double> load(shares.size(), 0.0);
  for (const std::size_t unit : order) {
    const auto rank = static_cast<std::size_t>(std::min_element(load.begin(), load.end()) - load.begin());
    shares[rank].push_back(unit);
    load[rank] += units[unit].flops;
  }
  std::size_t num_assigned = 0;
  for (auto& share : shares) {
    std::sort(share.begin(), share.end());
    num_assigned += share.size();
  }
  SPECTRACE_ASSERT(num_assigned == open.size());
  return shares;
}

}  // namespace spectrace
