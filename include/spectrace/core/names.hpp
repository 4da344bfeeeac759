#pragma once

#include <string_view>

namespace spectrace {

/// Whether a name is of the form of a pattern: '*' stands for any characters, dots among them, or none, '?' for one
/// byte, everything else for itself. Takes time in proportion to the product of their lengths at most.
bool fits_pattern(std::string_view name, std::string_view pattern);

/// The order in which people count: numbers within names compare as numbers ("layer.2" before "layer.10"), all else by
/// bytes. Total: of different names one comes first.
bool comes_before(std::string_view a, std::string_view b);

}  // namespace spectrace
