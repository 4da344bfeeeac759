#pragma once

#include <string>
#include <vector>

#include "spectrace/core/json.hpp"
#include "spectrace/text/limits.hpp"

namespace spectrace::text {

inline const char* const input_ids_suggestion = "Prompts may be given as input_ids instead.";

/// "the normalizer 'Precompiled' is not supported", with what is.
inline InputError unsupported_part(const JsonNode& node, const std::string& part, const std::string& name,
                                   const std::vector<std::string>& supported) {
  return node.error("the " + part + " '" + shown(name) + "' is not supported",
                    "supported are " + quoted_list(supported), input_ids_suggestion);
}

/// "more than 256 normalizers".
inline InputError too_many_steps(const JsonNode& node, const std::string& what) {
  return node.error("the tokenizer has more than " + std::to_string(kMaxSteps) + " " + what,
                    "each is another pass over every prompt", input_ids_suggestion);
}

}  // namespace spectrace::text
