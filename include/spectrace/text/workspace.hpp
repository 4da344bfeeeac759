#pragma once

#include <cstddef>

#include "spectrace/text/limits.hpp"
#include "spectrace/text/regex.hpp"
#include "spectrace/text/text_arena.hpp"

namespace spectrace::text {

/// What one text may take on its way to tokens.
struct Workspace {
  TextArena arena;
  PatternEffort effort;

  explicit Workspace(std::size_t text_bytes) : arena(growth_limit(text_bytes)), effort(text_bytes) {}
};

}  // namespace spectrace::text
