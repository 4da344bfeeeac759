#pragma once

#include <string>

#include "spectrace/core/stage_times.hpp"
#include "spectrace/measure/analysis.hpp"

namespace spectrace {

/// What the time that an analysis of weights takes is counted as: by its place in the catalogue, the same on every rank
/// whatever it does first. @pre it is of the catalogue.
Stage stage_of(const Analysis& analysis);

/// "forward", "weights"; empty if there is no such stage.
std::string name(Stage stage);

}  // namespace spectrace
