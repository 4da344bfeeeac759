#include "spectrace/core/log.hpp"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <array>

#include "spectrace/core/error.hpp"

namespace spectrace {
namespace {

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::debug: return spdlog::level::debug;
    case LogLevel::info: return spdlog::level::info;
    case LogLevel::warning: return spdlog::level::warn;
    case LogLevel::error: return spdlog::level::err;
    case LogLevel::off: return spdlog::level::off;
  }
  return spdlog::level::off;
}

spdlog::logger& logger() {
  static spdlog::logger instance = [] {
    auto console = std::make_shared<spdlog::sinks::stderr_color_sink_mt>();
    console->set_pattern("%^%l%$: %v");
    spdlog::logger made("spectrace", console);
    made.set_level(spdlog::level::debug);
    made.sinks().front()->set_level(spdlog::level::info);
    return made;
  }();
  return instance;
}

std::string host_name() {
  std::array<char, 256> name{};
  ::gethostname(name.data(), name.size() - 1);
  return name.data();
}

}  // namespace

LogLevel parse_log_level(std::string_view name) {
  if (name == "debug") return LogLevel::debug;
  if (name == "info") return LogLevel::info;
  if (name == "warning") return LogLevel::warning;
  if (name == "error") return LogLevel::error;
  if (name == "off") return LogLevel::off;
  throw InputError(ErrorKind::usage, "unknown log level '" + std::string(name) + "'",
                   "allowed: debug, info, warning, error, off");
}

void set_log(LogLevel console, int rank) {
  auto& sink = *logger().sinks().front();
  sink.set_level(to_spdlog(console));
  sink.set_pattern(rank == 0 ? "%^%l%$: %v" : "%^%l%$: rank " + std::to_string(rank) + ": %v");
}

void open_log_file(const std::filesystem::path& folder, int rank) {
  const auto path = folder / ("rank-" + std::to_string(rank) + ".log");
  try {
    auto sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(path.string());
    sink->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z " + host_name() + " rank " + std::to_string(rank) + " %l: %v");
    sink->set_level(spdlog::level::debug);
    logger().sinks().resize(1);
    logger().sinks().push_back(std::move(sink));
    logger().flush_on(spdlog::level::info);
  } catch (const spdlog::spdlog_ex& error) {
    throw InputError(ErrorKind::io, "cannot open the log file '" + path.string() + "'", error.what());
  }
}

void flush_log() { logger().flush(); }

void log_message(LogLevel level, std::string_view message) { logger().log(to_spdlog(level), message); }

}  // namespace spectrace
