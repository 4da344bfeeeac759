#pragma once

#include <string>

namespace spectrace {

/// "1.10.8": the HDF5 library that the program runs with.
std::string hdf5_library_version();

}  // namespace spectrace
