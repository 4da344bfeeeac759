#pragma once

#include <cstdint>
#include <functional>

#include "spectrace/measure/choice.hpp"
#include "spectrace/measure/record.hpp"

namespace spectrace {

/// Calls visit(record) for the record of each batch of a set that did not fail, in the plan's order.
using EachBatch = std::function<void(const std::function<void(const Record&)>& visit)>;

/// What the analysis says of a set as a whole; a failed record if that cannot be had. @pre it has set_quantities.
/// @throws InputError (io) as `each_batch` does.
Record numbers_of_set(const Chosen& chosen, const Circumstances& of, const std::string& set, std::int64_t limit_bytes,
                      const EachBatch& each_batch);

}  // namespace spectrace
