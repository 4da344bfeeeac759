#pragma once

#include <string>
#include <vector>

#include "spectrace/core/json.hpp"

namespace spectrace::text {

inline const char* const input_ids_suggestion = "Prompts may be given as input_ids instead.";

/// "the normalizer 'Precompiled' is not supported", with what is.
inline InputError unsupported_part(const JsonNode& node, const std::string& part, const std::string& name,
                                   const std::vector<std::string>& supported) {
  return node.error("the " + part + " '" + name + "' is not supported", "supported are " + quoted_list(supported),
                    input_ids_suggestion);
}

}  // namespace spectrace::text
