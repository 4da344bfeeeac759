#include "spectrace/sweep/messages.hpp"

#include <fmt/format.h>

#include <cstdint>
#include <span>
#include <utility>

#include "spectrace/core/json.hpp"

namespace spectrace {
namespace {

/// Visits a variant by one lambda an alternative.
template <typename... Fs>
struct Overloaded : Fs... {
  using Fs::operator()...;
};

std::string to_bytes(const Json& json) {
  std::string bytes;
  Json::to_cbor(json, bytes);
  return bytes;
}

/// @throws InternalError unless it is a number of an enumerator, the last of which is `last`.
template <typename Enum>
Enum to_enum(const Json& json, Enum last) {
  const auto number = json.get<std::int64_t>();
  if (number < 0 || number > static_cast<std::int64_t>(last))
    throw InternalError(fmt::format("{} is not between 0 and {}", number, static_cast<std::int64_t>(last)));
  return static_cast<Enum>(number);
}

/// By columns: there may be thousands of them.
Json json_of(const std::vector<OpenUnit>& units) {
  Json json = {
      {"unit", Json::array()}, {"flops", Json::array()}, {"seconds", Json::array()}, {"is_undivided", Json::array()}};
  for (const OpenUnit& unit : units) {
    json["unit"].push_back(unit.unit);
    json["flops"].push_back(unit.flops);
    json["seconds"].push_back(unit.seconds);
    json["is_undivided"].push_back(unit.is_undivided);
  }
  return json;
}

std::vector<OpenUnit> units_from(const Json& json) {
  const Json &numbers = json.at("unit"), &flops = json.at("flops"), &seconds = json.at("seconds"),
             &are_undivided = json.at("is_undivided");
  if (flops.size() != numbers.size() || seconds.size() != numbers.size() || are_undivided.size() != numbers.size())
    throw InternalError("the columns of its units are not of one length");
  std::vector<OpenUnit> units;
  for (std::size_t i = 0; i < numbers.size(); ++i)
    units.push_back({.unit = numbers.at(i).get<std::size_t>(),
                     .flops = flops.at(i).get<double>(),
                     .seconds = seconds.at(i).get<double>(),
                     .is_undivided = are_undivided.at(i).get<bool>()});
  return units;
}

Json json_of(const SumsShape& shape) { return {{"slots", shape.num_slots}, {"units", shape.num_units}}; }

SumsShape shape_from(const Json& json) {
  return {.num_slots = json.at("slots").get<std::vector<std::int64_t>>(),
          .num_units = json.at("units").get<std::size_t>()};
}

using Tensors = std::vector<std::pair<std::string, std::string>>;

Json json_of(const ModelOpened& opened) {
  return {{"of", "opened"},
          {"units", json_of(opened.units)},
          {"stages", opened.stages},
          {"sums", json_of(opened.sums)},
          {"num_journalled", opened.num_journalled},
          {"journalled_flops", opened.journalled_flops},
          {"expected_busy_s", opened.expected.busy_s},
          {"expected_peak_bytes", opened.expected.peak_bytes},
          {"is_calibrated", opened.expected.is_calibrated}};
}

ModelOpened opened_from(const Json& json) {
  return {.units = units_from(json.at("units")),
          .stages = json.at("stages").get<int>(),
          .sums = shape_from(json.at("sums")),
          .num_journalled = json.at("num_journalled").get<std::size_t>(),
          .journalled_flops = json.at("journalled_flops").get<double>(),
          .expected = {.busy_s = json.at("expected_busy_s").get<double>(),
                       .peak_bytes = json.at("expected_peak_bytes").get<double>(),
                       .is_calibrated = json.at("is_calibrated").get<bool>()}};
}

Json json_of(const ModelFinished& finished) {
  return {{"of", "finished"},
          {"status", static_cast<int>(finished.outcome.status)},
          {"error", finished.outcome.error},
          {"summary_rows", rows_to_json(finished.rows)},
          {"was_there", finished.was_there}};
}

ModelFinished finished_from(const Json& json) {
  return {.outcome = {.status = to_enum(json.at("status"), ModelStatus::mismatch),
                      .error = json.at("error").get<std::string>()},
          .rows = rows_from_json(json.at("summary_rows")),
          .was_there = json.at("was_there").get<bool>()};
}

Json json_of(const Report& report) {
  return std::visit(
      Overloaded{[](const ModelOpened& opened) { return json_of(opened); },
                 [](const UnitsWorked& worked) -> Json {
                   return {{"of", "worked"}, {"journal_file", worked.journal_file}, {"tensors", worked.tensors}};
                 },
                 [](const RecordsMissing& missing) -> Json {
                   return {{"of", "missing"}, {"units", json_of(missing.units)}};
                 },
                 [](const ModelFinished& finished) { return json_of(finished); }},
      report);
}

Report report_from(const Json& json) {
  const auto& kind = json.at("of").get_ref<const std::string&>();
  if (kind == "opened") return opened_from(json);
  if (kind == "worked")
    return UnitsWorked{.journal_file = json.at("journal_file").get<std::string>(),
                       .tensors = json.at("tensors").get<Tensors>()};
  if (kind == "missing") return RecordsMissing{.units = units_from(json.at("units"))};
  if (kind == "finished") return finished_from(json);
  throw InternalError(fmt::format("a report of '{}'", shown_text(kind)));
}

Json json_of(const Order& order) {
  const Assignment& assignment = order.assignment;
  return {
      {"step", static_cast<int>(assignment.step)}, {"model", assignment.model},         {"units", assignment.units},
      {"first_rank", assignment.first_rank},       {"num_ranks", assignment.num_ranks}, {"is_last", assignment.is_last},
      {"journal_files", order.journal_files},      {"tensors", order.tensors},          {"sums_come", order.sums_come}};
}

Order order_from(const Json& json) {
  return {.assignment = {.step = to_enum(json.at("step"), Step::collect),
                         .model = json.at("model").get<std::size_t>(),
                         .units = json.at("units").get<std::vector<std::size_t>>(),
                         .first_rank = json.at("first_rank").get<int>(),
                         .num_ranks = json.at("num_ranks").get<int>(),
                         .is_last = json.at("is_last").get<bool>()},
          .journal_files = json.at("journal_files").get<std::vector<std::string>>(),
          .tensors = json.at("tensors").get<Tensors>(),
          .sums_come = json.at("sums_come").get<bool>()};
}

Json json_of(const InputError& error) {
  return {{"kind", static_cast<int>(error.kind())},
          {"problem", error.problem()},
          {"why", error.why()},
          {"suggestion", error.suggestion()}};
}

InputError error_from(const Json& json) {
  return InputError(to_enum(json.at("kind"), ErrorKind::io), json.at("problem").get<std::string>(),
                    json.at("why").get<std::string>(), json.at("suggestion").get<std::string>());
}

/// Reads what a rank has sent. Whatever it stumbles over becomes an error that names the rank and what was read.
template <typename F>
auto read_message(std::string_view bytes, int sender, F&& read) {
  std::string what = "no message";
  try {
    const Json json = Json::from_cbor(bytes);
    what = "a message without a word";
    return read(json, what);
  } catch (const InternalError& error) {
    throw InternalError(fmt::format("rank {} sent {}: {}", sender, what, error.what()));
  } catch (const Json::exception& error) {
    throw InternalError(fmt::format("rank {} sent {}: {}", sender, what, error.what()));
  }
}

/// The word of a message; `what` is from here on what errors call it.
const std::string& word_of(const Json& json, std::string& what) {
  const auto& word = json.at("say").get_ref<const std::string&>();
  what = "'" + shown_text(word) + "'";
  return word;
}

}  // namespace

std::string encode(const to_root::Message& message) {
  return to_bytes(std::visit(
      Overloaded{[](const to_root::Ready& ready) -> Json {
                   return {{"say", "ready"}, {"host", ready.host}, {"pid", ready.pid}};
                 },
                 [](const to_root::Reported& reported) -> Json {
                   return {{"say", "report"}, {"report", json_of(reported.report)}, {"flops", reported.flops_done}};
                 },
                 [](const to_root::Alive& alive) -> Json {
                   return {{"say", "alive"}, {"flops", alive.flops_done}};
                 },
                 [](const to_root::StopAsked& stop) -> Json {
                   return {{"say", "stop"}, {"reason", stop.reason}};
                 },
                 [](const to_root::Failed& failed) -> Json {
                   return {{"say", "fatal"}, {"error", json_of(failed.error)}, {"flops", failed.flops_done}};
                 },
                 [](const to_root::Left&) -> Json {
                   return {{"say", "left"}};
                 }},
      message));
}

to_root::Message decode_to_root(std::string_view bytes, int sender) {
  return read_message(bytes, sender, [](const Json& json, std::string& what) -> to_root::Message {
    const std::string& word = word_of(json, what);
    const auto flops = [&] { return json.at("flops").get<double>(); };
    if (word == "ready")
      return to_root::Ready{.host = json.at("host").get<std::string>(), .pid = json.at("pid").get<long>()};
    if (word == "report") return to_root::Reported{.report = report_from(json.at("report")), .flops_done = flops()};
    if (word == "alive") return to_root::Alive{.flops_done = flops()};
    if (word == "stop") return to_root::StopAsked{.reason = json.at("reason").get<std::string>()};
    if (word == "fatal") return to_root::Failed{.error = error_from(json.at("error")), .flops_done = flops()};
    if (word == "left") return to_root::Left{};
    throw InternalError("no word that a rank says to root");
  });
}

std::string encode(const from_root::Message& message) {
  return to_bytes(std::visit(Overloaded{[](const from_root::Do& work) -> Json {
                                          return {{"say", "do"}, {"order", json_of(work.order)}};
                                        },
                                        [](const from_root::Reduce& reduce) -> Json {
                                          return {{"say", "reduce"},
                                                  {"model", reduce.model},
                                                  {"receiver", reduce.receiver},
                                                  {"shape", json_of(reduce.shape)}};
                                        },
                                        [](const from_root::Alive&) -> Json {
                                          return {{"say", "alive"}};
                                        },
                                        [](const from_root::Stop&) -> Json {
                                          return {{"say", "stop"}};
                                        },
                                        [](const from_root::Leave& leave) -> Json {
                                          return {{"say", "leave"}, {"code", leave.exit_code}};
                                        }},
                             message));
}

from_root::Message decode_from_root(std::string_view bytes, int sender) {
  return read_message(bytes, sender, [](const Json& json, std::string& what) -> from_root::Message {
    const std::string& word = word_of(json, what);
    if (word == "do") return from_root::Do{.order = order_from(json.at("order"))};
    if (word == "reduce")
      return from_root::Reduce{.model = json.at("model").get<std::size_t>(),
                               .receiver = json.at("receiver").get<int>(),
                               .shape = shape_from(json.at("shape"))};
    if (word == "alive") return from_root::Alive{};
    if (word == "stop") return from_root::Stop{};
    if (word == "leave") return from_root::Leave{.exit_code = json.at("code").get<int>()};
    throw InternalError("no word that root says to a rank");
  });
}

std::string encode(const InputError& error) { return to_bytes(json_of(error)); }

InputError decode_error(std::string_view bytes, int sender) {
  return read_message(bytes, sender, [](const Json& json, std::string& what) {
    what = "an error";
    return error_from(json);
  });
}

}  // namespace spectrace
