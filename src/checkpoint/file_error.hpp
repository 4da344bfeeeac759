#pragma once

#include <string>
#include <utility>

#include "spectrace/core/error.hpp"
#include "spectrace/core/file.hpp"

namespace spectrace {

/// A file of tensors that is not what it should be.
inline InputError file_error(const FileReader& file, const std::string& problem, std::string why = {},
                             std::string suggestion = "Copy or download the file again.") {
  return InputError(ErrorKind::model, "'" + file.path().string() + "': " + problem, std::move(why),
                    std::move(suggestion));
}

}  // namespace spectrace
