#include "spectrace/text/prompt_set.hpp"

#include <algorithm>
#include <unordered_set>

#include "spectrace/core/error.hpp"
#include "spectrace/core/file.hpp"
#include "spectrace/core/json.hpp"
#include "spectrace/text/delimited_file.hpp"
#include "spectrace/text/limits.hpp"
#include "spectrace/text/utf8.hpp"

namespace spectrace {
namespace {

struct Line {
  std::size_t number;  // from 1
  std::string_view text;
};

/// The lines that hold anything, without their ends (LF or CRLF).
std::vector<Line> split_lines(std::string_view content) {
  std::vector<Line> lines;
  std::size_t number = 0;
  for (std::size_t begin = 0; begin < content.size();) {
    const std::size_t end = std::min(content.find('\n', begin), content.size());
    std::string_view text = content.substr(begin, end - begin);
    if (text.ends_with('\r')) text.remove_suffix(1);
    ++number;
    if (!text.empty()) lines.push_back({number, text});
    begin = end + 1;
  }
  return lines;
}

std::vector<Prompt> read_text_lines(std::string_view content) {
  std::vector<Prompt> prompts;
  for (const Line& line : split_lines(content))
    prompts.push_back({std::to_string(prompts.size()), std::string(line.text), std::nullopt});
  return prompts;
}

Prompt read_json_prompt(const JsonNode& node, std::size_t index) {
  node.expect_only_keys({"id", "text", "input_ids"});
  Prompt prompt{std::to_string(index), node.get_string("text", ""), std::nullopt};
  if (const auto id = node.find("id")) prompt.id = id->is_integer() ? std::to_string(id->as_int()) : id->as_string();
  if (const auto ids = node.find("input_ids")) {
    if (node.has("text"))
      throw node.error("has both 'text' and 'input_ids'", "a prompt is one of them", "Take one of the two out.");
    prompt.input_ids.emplace();
    ids->for_each([&](const JsonNode& id) { prompt.input_ids->push_back(id.as_int()); });
  } else if (!node.has("text")) {
    throw node.error("has neither 'text' nor 'input_ids'");
  }
  return prompt;
}

std::vector<Prompt> read_json_lines(std::string_view content, const std::string& document) {
  std::vector<Prompt> prompts;
  for (const Line& line : split_lines(content)) {
    if (line.text.find_first_not_of(" \t") == line.text.npos) continue;
    const std::string place = document + ": line " + std::to_string(line.number);
    const auto node = JsonNode::parse_text(line.text, place, ErrorKind::usage, DuplicateKeys::refused);
    prompts.push_back(read_json_prompt(node, prompts.size()));
  }
  return prompts;
}

std::vector<Prompt> read_table(std::string_view content, char delimiter, const std::string& document) {
  const auto records = text::parse_delimited(content, delimiter, document);
  if (records.empty())
    throw InputError(ErrorKind::usage, document + ": is empty", "", "Give it a header line with a column 'text'.");
  const auto& header = records.front().fields;
  const auto column_of = [&](std::string_view name) {
    if (std::count(header.begin(), header.end(), name) > 1)
      throw InputError(ErrorKind::usage, document + ": has two columns '" + std::string(name) + "'");
    return static_cast<std::size_t>(std::find(header.begin(), header.end(), name) - header.begin());
  };
  const std::size_t text_column = column_of("text"), id_column = column_of("id");
  if (text_column == header.size())
    throw InputError(ErrorKind::usage, document + ": has no column 'text'",
                     "its columns are " + text::shown(quoted_list(header)),
                     "Name the column with the prompts 'text' in the first line.");
  std::vector<Prompt> prompts;
  for (std::size_t i = 1; i < records.size(); ++i) {
    const auto& [line, fields] = records[i];
    if (fields.size() != header.size())
      throw InputError(
          ErrorKind::usage,
          document + ": line " + std::to_string(line) + " has " + std::to_string(fields.size()) + " fields",
          "the header has " + std::to_string(header.size()),
          "Is there a delimiter in a field that is not in double quotes?");
    const std::string number = std::to_string(prompts.size());
    prompts.push_back({id_column < header.size() ? fields[id_column] : number, fields[text_column], std::nullopt});
  }
  return prompts;
}

void check_utf8(std::string_view content, const std::string& document) {
  const auto invalid = text::find_invalid_utf8(content);
  if (!invalid) return;
  const auto line = 1 + std::count(content.begin(), content.begin() + static_cast<std::ptrdiff_t>(*invalid), '\n');
  const auto line_begin = content.substr(0, *invalid).rfind('\n') + 1;  // npos + 1 is the first byte
  throw InputError(ErrorKind::usage, document + ": line " + std::to_string(line) + " is not UTF-8",
                   "at its byte " + std::to_string(*invalid - line_begin + 1), "Convert the file to UTF-8.");
}

}  // namespace

std::vector<Prompt> read_prompt_file(const std::filesystem::path& path) {
  const std::string extension = path.extension().string(), document = path.string();
  if (extension != ".jsonl" && extension != ".txt" && extension != ".csv" && extension != ".tsv")
    throw InputError(ErrorKind::usage, document + ": is no prompt file by its name",
                     "the extension '" + extension + "' is not one of .jsonl, .txt, .csv, .tsv");
  const std::string file = read_text_file(path, text::kMaxPromptFileBytes, ErrorKind::usage);
  std::string_view content = file;
  if (content.starts_with("\xEF\xBB\xBF")) content.remove_prefix(3);  // a byte order mark is no part of the text
  check_utf8(content, document);
  std::vector<Prompt> prompts;
  if (extension == ".txt") {
    prompts = read_text_lines(content);
  } else if (extension == ".jsonl") {
    prompts = read_json_lines(content, document);
  } else {
    prompts = read_table(content, extension == ".csv" ? ',' : '\t', document);
  }
  check_prompt_ids(prompts, document);
  return prompts;
}

void check_prompt_ids(const std::vector<Prompt>& prompts, const std::string& where) {
  std::unordered_set<std::string_view> seen;
  for (const Prompt& prompt : prompts)
    if (!seen.insert(prompt.id).second)
      throw InputError(ErrorKind::usage, where + ": two prompts have the id '" + text::shown(prompt.id) + "'",
                       "an id that is not given is the prompt's number from 0", "Give each prompt an id of its own.");
}

}  // namespace spectrace
