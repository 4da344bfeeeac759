#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace spectrace {

/// One prompt: text for the model's tokenizer, or token ids taken as they are.
struct Prompt {
  std::string id;
  std::string text;  ///< empty if input_ids are given
  std::optional<std::vector<std::int64_t>> input_ids;
};

/// Prompts of a file, by its extension: .jsonl ({"id":…, "text":…} or {"id":…, "input_ids":[…]} a line), .txt (a prompt
/// a line; empty lines are skipped), .csv or .tsv (RFC 4180 quoting, a header line with a `text` column, an `id` column
/// if there is one). An id that is not given is the prompt's number from 0.
/// @throws InputError (usage) naming file and line: unknown key, wrong type, invalid UTF-8, a key twice, a text beside
/// token ids, two prompts of one id, ...
std::vector<Prompt> read_prompt_file(const std::filesystem::path& path);

/// @throws InputError (usage) if two prompts share an id; `where` names the list.
void check_prompt_ids(const std::vector<Prompt>& prompts, const std::string& where);

}  // namespace spectrace
