#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace spectrace::text {

/// One record of a .csv or .tsv file, unquoted.
struct DelimitedRecord {
  std::size_t line;  ///< where it starts, from 1
  std::vector<std::string> fields;
};

/// Records of RFC 4180 text: fields in double quotes may hold the delimiter, line breaks and doubled quotes; lines end
/// with LF or CRLF; lines without a character are skipped.
/// @throws InputError (usage) naming `document` and line: a quote that is not closed, or one inside a bare field.
std::vector<DelimitedRecord> parse_delimited(std::string_view text, char delimiter, const std::string& document);

}  // namespace spectrace::text
