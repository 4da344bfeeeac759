#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>

#include "spectrace/core/error.hpp"

namespace spectrace {

/// Runs `action` and expects an InputError of that kind whose text holds every part.
template <typename Action>
void expect_input_error(ErrorKind kind, std::initializer_list<std::string> parts, const Action& action) {
  try {
    action();
    ADD_FAILURE() << "no error, expected one that says '" << *parts.begin() << "'";
  } catch (const InputError& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    for (const auto& part : parts)
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos)
          << "'" << part << "' is not in: " << error.what();
  }
}

}  // namespace spectrace
