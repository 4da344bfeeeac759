#pragma once

#include <string>

namespace spectrace {

/// The text as a results file can hold it: what is not UTF-8 (a file's name in an error text, say) and the byte 0,
/// which ends a text in HDF5, become U+FFFD. Readers in Python would refuse the file otherwise.
std::string storable_text(const std::string& text);

}  // namespace spectrace
