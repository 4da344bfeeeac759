#include <fmt/format.h>
#include <fmt/ranges.h>

#include "spectrace/app/command_line.hpp"
#include "spectrace/core/error.hpp"

namespace spectrace {
namespace {

/// One option as a shell should offer it.
struct OfferedOption {
  std::vector<std::string> names;  // "-o", "--output"
  std::string help;
  std::vector<std::string> values;  // of a fixed set
  bool takes_value = false, takes_file = false, may_repeat = false;
};

/// Options and arguments that are files or folders are called so in their help.
bool is_file(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  return type == "FILE" || type == "DIR" || type == "PATH";
}

/// "{auto,mpi,nccl}", as CLI11 describes a fixed set of values, as a list.
std::vector<std::string> fixed_values(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const auto open = type.find('{'), close = type.find('}');
  std::vector<std::string> values;
  if (open == std::string::npos || close == std::string::npos) return values;
  std::string word;
  for (const char c : type.substr(open + 1, close - open - 1) + ",") {
    if (c == ',') {
      if (!word.empty()) values.push_back(word);
      word.clear();
    } else {
      word += c;
    }
  }
  return values;
}

std::vector<OfferedOption> options_of(const CLI::App& app) {
  std::vector<OfferedOption> offered;
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_positional() && option->get_lnames().empty()) continue;
    OfferedOption entry;
    for (const auto& name : option->get_snames()) entry.names.push_back("-" + name);
    for (const auto& name : option->get_lnames()) entry.names.push_back("--" + name);
    entry.help = option->get_description();
    entry.values = fixed_values(*option);
    entry.takes_value = option->get_expected_min() > 0 && option->get_items_expected() > 0;
    entry.takes_file = is_file(*option);
    entry.may_repeat = option->get_items_expected_max() > 1;
    offered.push_back(std::move(entry));
  }
  return offered;
}

/// Values that a positional of the subcommand is limited to (completion SHELL).
std::vector<std::string> positional_values(const CLI::App& app) {
  for (const CLI::Option* option : app.get_options())
    if (option->get_positional())
      if (auto values = fixed_values(*option); !values.empty()) return values;
  return {};
}

std::string join(const std::vector<std::string>& words) { return fmt::format("{}", fmt::join(words, " ")); }

std::string quoted_for_shell(const std::string& text) {
  std::string quoted;
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return "'" + quoted + "'";
}

bool takes_files(const CLI::App& command) {
  for (const CLI::Option* option : command.get_options())
    if (option->get_positional() && is_file(*option)) return true;
  return false;
}

std::vector<const CLI::App*> commands_of(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

/// A case of bash for each option with a value: what may follow it.
std::string bash_values(const CLI::App& app) {
  std::string cases;
  for (const auto& option : options_of(app)) {
    if (!option.takes_value) continue;
    std::string action = "return";
    if (!option.values.empty())
      action = fmt::format("_spectrace_words '{}'; return", join(option.values));
    else if (option.takes_file)
      action = "_spectrace_files; return";
    cases += fmt::format("    {}) {};;\n", fmt::join(option.names, "|"), action);
  }
  return cases;
}

/// Names go through `mapfile`, a line each: a name with spaces stays one word, and -o filenames has readline quote it.
constexpr const char* kBashHelpers =
    "_spectrace_words() { mapfile -t COMPREPLY < <(compgen -W \"$1\" -- \"$word\"); }\n"
    "_spectrace_files() {\n"
    "  local typed=\"$word\"\n"
    "  case \"$typed\" in\n"
    "    [\\\"\\']*) typed=\"${typed:1}\";;  # an open quote\n"
    "    *) typed=\"${typed//\\\\/}\";;  # my\\ job.json\n"
    "  esac\n"
    "  mapfile -t COMPREPLY < <(compgen -f -- \"$typed\")\n"
    "  compopt -o filenames 2>/dev/null\n"
    "}\n";

std::string bash_script(const CLI::App& app) {
  std::vector<std::string> names;
  std::string cases, values = bash_values(app);
  for (const CLI::App* command : commands_of(app)) {
    names.push_back(command->get_name());
    values += bash_values(*command);
    std::string words;
    for (const auto& option : options_of(*command)) words += join(option.names) + " ";
    cases += fmt::format("    {}) options='{}' arguments='{}' files={};;\n", command->get_name(), words,
                         join(positional_values(*command)), takes_files(*command) ? "yes" : "");
  }
  std::string top;
  for (const auto& option : options_of(app)) top += join(option.names) + " ";
  return fmt::format(
      "# bash completion for spectrace: source this file, or put it into a bash-completion folder\n{}"
      "_spectrace() {{\n"
      "  local word=\"${{COMP_WORDS[COMP_CWORD]}}\" before=\"${{COMP_WORDS[COMP_CWORD-1]}}\" command='' part\n"
      "  local options='{}' arguments='' files=''\n"
      "  COMPREPLY=()\n"
      "  case \"$before\" in\n{}  esac\n"
      "  for part in \"${{COMP_WORDS[@]:1:COMP_CWORD-1}}\"; do\n"
      "    case \"$part\" in {}) command=\"$part\"; break;; esac\n"
      "  done\n"
      "  case \"$command\" in\n"
      "    '') arguments='{}';;\n{}  esac\n"
      "  case \"$word\" in\n"
      "    -*) _spectrace_words \"$options\";;\n"
      "    *) if [ -n \"$files\" ]; then _spectrace_files; else _spectrace_words \"$arguments\"; fi;;\n"
      "  esac\n"
      "}}\n"
      "complete -F _spectrace spectrace\n",
      kBashHelpers, top, values, fmt::join(names, "|"), join(names), cases);
}

std::string fish_script(const CLI::App& app) {
  std::string text =
      "# fish completion for spectrace\n"
      "complete -c spectrace -f\n";  // no files but where they are asked for
  const auto add = [&](const std::string& condition, const OfferedOption& option) {
    text += "complete -c spectrace" + condition;
    for (const auto& name : option.names)
      text += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
    if (!option.values.empty())
      text += " -x -a " + quoted_for_shell(join(option.values));
    else if (option.takes_value)
      text += option.takes_file ? " -r -F" : " -x";
    text += " -d " + quoted_for_shell(option.help) + "\n";
  };
  for (const auto& option : options_of(app)) add("", option);
  for (const CLI::App* command : commands_of(app)) {
    text += fmt::format("complete -c spectrace -n __fish_use_subcommand -a {} -d {}\n", command->get_name(),
                        quoted_for_shell(command->get_description()));
    const std::string condition = fmt::format(" -n '__fish_seen_subcommand_from {}'", command->get_name());
    for (const auto& option : options_of(*command)) add(condition, option);
    if (const auto values = positional_values(*command); !values.empty())
      text += fmt::format("complete -c spectrace{} -x -a {}\n", condition, quoted_for_shell(join(values)));
    if (takes_files(*command)) text += fmt::format("complete -c spectrace{} -F\n", condition);
  }
  return text;
}

/// zsh's argument specifications: brackets and colons in help texts would end them.
std::string zsh_argument(const OfferedOption& option) {
  std::string help;
  for (const char c : option.help) help += c == '[' || c == ']' || c == ':' ? ' ' : c;
  std::string text;
  for (const auto& name : option.names) {
    std::string argument = (option.may_repeat ? "*" : "") + name + "[" + help + "]";
    if (!option.values.empty())
      argument += ":value:(" + join(option.values) + ")";
    else if (option.takes_value)
      argument += option.takes_file ? ":file:_files" : ":value: ";
    text += " " + quoted_for_shell(argument);
  }
  return text;
}

std::string zsh_script(const CLI::App& app) {
  std::string commands, cases, top;
  for (const auto& option : options_of(app)) top += zsh_argument(option);
  for (const CLI::App* command : commands_of(app)) {
    commands += fmt::format("    {}\n", quoted_for_shell(command->get_name() + ":" + command->get_description()));
    std::string arguments;
    for (const auto& option : options_of(*command)) arguments += zsh_argument(option);
    const auto values = positional_values(*command);
    if (!values.empty()) arguments += " '1:value:(" + join(values) + ")'";
    if (takes_files(*command)) arguments += " '*:file:_files'";
    cases += fmt::format("    {}) _arguments{};;\n", command->get_name(), arguments);
  }
  return fmt::format(
      "#compdef spectrace\n"
      "_spectrace() {{\n"
      "  local -a commands\n  commands=(\n{}  )\n"
      "  _arguments -C{} '1:command:->command' '*::argument:->argument'\n"
      "  case $state in\n"
      "  command) _describe command commands;;\n"
      "  argument)\n    case $words[1] in\n{}    esac;;\n"
      "  esac\n}}\n"
      // Sourced, it registers itself; in a folder of fpath, zsh calls the file for the first completion.
      "if [ \"$funcstack[1]\" = _spectrace ]; then _spectrace \"$@\"; else compdef _spectrace spectrace; fi\n",
      commands, top, cases);
}

}  // namespace

std::string completion_script(const CLI::App& app, const std::string& shell) {
  if (shell == "bash") return bash_script(app);
  if (shell == "zsh") return zsh_script(app);
  if (shell == "fish") return fish_script(app);
  throw InputError(ErrorKind::usage, "no completion for the shell '" + shell + "'", "allowed: bash, zsh, fish");
}

}  // namespace spectrace
