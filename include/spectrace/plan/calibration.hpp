#pragma once

#include "spectrace/plan/machine_profile.hpp"
#include "spectrace/plan/model_plan.hpp"
#include "spectrace/plan/open_model.hpp"

namespace spectrace {

/// Measures how fast this process works on the model, with the threads that it has now: reads one layer, does its
/// spectra, runs a batch of middle size through it with all statistics, and does a part of the unembedding. Seconds to
/// minutes. What the plan has nothing of keeps its default. @throws InputError (model, io).
WorkRates calibrate(const OpenModel& model, const ModelPlan& plan, const Job& job);

}  // namespace spectrace
