#pragma once

#include <string_view>

#include "spectrace/core/json.hpp"

namespace spectrace {

/// Text to value, in time linear in the text whatever it holds. @throws InputError (kind) that names the document and
/// line: no JSON, nested deeper than kMaxJsonDepth, of more than kMostJsonValues, a key twice where that is refused.
Json parse_json(std::string_view text, const std::string& document, ErrorKind kind, DuplicateKeys duplicates);

}  // namespace spectrace
