#pragma once

#include <string>
#include <utility>
#include <vector>

#include "spectrace/measure/choice.hpp"
#include "spectrace/plan/job.hpp"

namespace spectrace {

/// What results depend on, by name: results whose identities differ in a name that both have do not belong together.
using Identity = std::vector<std::pair<std::string, std::string>>;

/// "compute dtype: was float32, now float64" for each name that both have with different values. Prompts that name no
/// device were measured on the host.
std::vector<std::string> identity_differences(const Identity& before, const Identity& now);
/// An identity that says of each of these analyses, which the results have, of which version its numbers are.
Identity with_versions(Identity identity, const std::vector<const Analysis*>& analyses);
std::string identity_to_json(const Identity& identity);
Identity identity_from_json(const std::string& text);

/// What of a job decides the bits of a model's records beside its weights and token ids.
struct PlanOptions {
  ComputeType dtype = ComputeType::float32;
  Slicing slicing = Slicing::correct;
  std::int64_t tokens_per_batch = 256;
  std::string config = {};       ///< of the model: config.json, as it was parsed
  std::string device_kind = {};  ///< of prompts; empty: the host. Spectra are the host's everywhere
};
PlanOptions plan_options(const Job& job, const Json& config);

/// What the bits of an analysis depend on beside the model. The one source of a unit's key, and of what results say of
/// themselves: the attributes `identity` and `parameters`.
std::vector<Setting> settings_of(const Chosen& chosen, const PlanOptions& options);

/// Of the numerics, the model's config and what is asked of each analysis.
Identity identity_of(const AnalysisChoice& analyses, const PlanOptions& options);
/// Adds the prompts of a set.
void add_set(Identity& identity, const std::string& set, const std::string& digest);
/// Both, in the order that one job for all of it would have.
Identity merged(const Identity& before, const Identity& now);

/// What of an identity is said in the attribute `parameters`: slicing and dtype, and what decides these analyses.
/// @pre find_wrong_value(identity) is empty.
Json parameters_of(const Identity& identity, const std::vector<const Analysis*>& analyses);
/// Why the identity's values are not of the kind that they should be; empty if they are.
std::string find_wrong_value(const Identity& identity);

}  // namespace spectrace
