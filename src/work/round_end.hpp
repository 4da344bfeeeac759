#pragma once

#include "batch_under_way.hpp"

namespace spectrace {

/// What comes behind the last block: the final norm of all batches that have not failed, and what their prompts predict
/// where that is wanted, as many together as a stop can wait for. What is wrong with the checkpoint becomes their
/// error.
/// @return false if a stop came between.
bool end_round(const OpenModel& model, Round& round, const PassEvents& events);

}  // namespace spectrace
