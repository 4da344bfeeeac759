#pragma once

#include <fmt/format.h>

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

namespace spectrace {

enum class LogLevel { debug, info, warning, error, off };

/// @throws InputError (usage) naming what is allowed.
LogLevel parse_log_level(std::string_view name);

/// Messages go to standard error (from this rank at `console`) and, once open_log_file was called, to a file.
void set_log(LogLevel console, int rank);
/// Opens <folder>/rank-<rank>.log, appending; everything from debug up goes there. @throws InputError (io).
void open_log_file(const std::filesystem::path& folder, int rank);
void flush_log();

void log_message(LogLevel level, std::string_view message);

template <typename... Args>
void log_debug(fmt::format_string<Args...> format, Args&&... args) {
  log_message(LogLevel::debug, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_message(LogLevel::info, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  log_message(LogLevel::warning, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args) {
  log_message(LogLevel::error, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace spectrace
