#include "spectrace/work/error_of.hpp"

#include <c10/core/impl/alloc_cpu.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include <map>
#include <new>
#include <stdexcept>
#include <system_error>
#include <variant>
#include <vector>

#include "spectrace/core/json.hpp"
#include "spectrace/core/parallel.hpp"
#include "spectrace/numerics/numerical_error.hpp"
#include "spectrace/numerics/tensor_memory.hpp"

namespace spectrace {
namespace {

/// Mistakes of ours, as the standard library and nlohmann's tell of them.
const std::map<std::string, std::function<void()>> kBugs = {
    {"out_of_range", [] { std::map<std::string, int>().at("absent"); }},
    {"bad_variant_access", [] { static_cast<void>(std::get<int>(std::variant<int, double>(0.5))); }},
    {"logic_error", [] { throw std::logic_error("ours"); }},
    {"length_error", [] { std::vector<int>().reserve(~std::size_t{0}); }},
    {"runtime_error", [] { throw std::runtime_error("nobody's"); }},
    {"json type", [] { static_cast<void>(Json(1).get<std::string>()); }},
    {"json key", [] { static_cast<void>(Json::object().at("absent")); }},
    {"libtorch", [] { TORCH_CHECK(false, "no such shape"); }},
    {"libtorch index", [] { TORCH_CHECK_INDEX(false, "no such place"); }},
};

/// What libtorch says of matrices and memory, a line of it first and then where in libtorch.
void fail_to_converge() { TORCH_CHECK_LINALG(false, "no convergence\n", "a second line"); }
void fail_on_device() { TORCH_CHECK_WITH(OutOfMemoryError, false, "CUDA out of memory"); }
void fail_on_host() { c10::alloc_cpu(std::size_t{1} << 60); }

/// The text of the InternalError that `f` throws.
std::string bug_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const InternalError& error) {
    return error.what();
  }
  return "";
}

TEST(error_of, what_a_unit_may_fail_of_is_its_text) {
  EXPECT_EQ(error_of("layer 3", [] {}), std::nullopt);
  EXPECT_EQ(error_of("layer 3", [] { throw InputError(ErrorKind::io, "cannot read 'a'", "why", "Look."); }),
            "cannot read 'a' (why) Look.");
  EXPECT_EQ(error_of("layer 3", [] { throw NumericalError("an entry is not finite"); }),
            "layer 3: an entry is not finite");
  EXPECT_EQ(error_of("layer 3", [] { throw TensorMemoryError("a tensor of 9 GiB does not fit"); }),
            "layer 3: a tensor of 9 GiB does not fit");
  EXPECT_EQ(error_of("layer 3", [] { throw std::bad_alloc(); }), "layer 3: does not fit into memory");
  EXPECT_EQ(error_of("layer 3", fail_to_converge), "layer 3: no convergence");
  EXPECT_EQ(error_of("layer 3", fail_on_device), "layer 3: CUDA out of memory");
  EXPECT_NE(error_of("layer 3", fail_on_host).value().find("allocate"), std::string::npos);
}

TEST(error_of, a_bug_is_never_called_the_units) {
  for (const auto& [kind, bug] : kBugs) {
    SCOPED_TRACE(kind);
    std::string what;
    try {
      bug();
    } catch (const std::exception& error) {
      what = error.what();
      what = what.substr(0, what.find('\n'));
    }
    EXPECT_EQ(bug_of([&] { static_cast<void>(error_of("layer 3", bug)); }), "layer 3: " + what);
    EXPECT_EQ(bug_of([&] { static_cast<void>(outcome_of("m", bug)); }), "m: " + what);
  }
}

// The innermost place is the one that helps.
TEST(error_of, a_bug_keeps_the_place_where_it_was_caught_first) {
  const auto unit = [] { static_cast<void>(error_of("layer 3", [] { throw std::logic_error("ours"); })); };
  EXPECT_EQ(bug_of([&] { static_cast<void>(outcome_of("m", unit)); }), "layer 3: ours");
}

TEST(error_of, a_thread_that_cannot_be_had_is_no_units_failure) {
  const auto refuse = [] { throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again)); };
  EXPECT_THROW(static_cast<void>(error_of("layer 3", refuse)), std::system_error);
  EXPECT_THROW(static_cast<void>(outcome_of("m", refuse)), std::system_error);
  const auto none = [] { throw ThreadError("a thread cannot be had", "no room"); };
  EXPECT_THROW(static_cast<void>(error_of("layer 3", none)), ThreadError);
  EXPECT_THROW(static_cast<void>(outcome_of("m", none)), ThreadError);
  EXPECT_THROW(with_kind(ErrorKind::model, none), ThreadError);
}

/// Leaves a unit without being an error.
struct Leave {};

TEST(error_of, what_is_no_error_passes) {
  EXPECT_THROW(static_cast<void>(error_of("layer 3", [] { throw Leave{}; })), Leave);
}

TEST(outcome_of, a_models_errors_are_its_outcome) {
  EXPECT_FALSE(outcome_of("m", [] {}).has_value());
  const auto outcome = [](const std::function<void()>& f) { return outcome_of("m", f).value(); };
  const auto wrong = outcome([] { throw InputError(ErrorKind::model, "a tensor is absent"); });
  EXPECT_EQ(wrong.status, ModelStatus::failed);
  EXPECT_EQ(wrong.error, "a tensor is absent");
  EXPECT_EQ(outcome([] { throw InputError(ErrorKind::usage, "other prompts"); }).status, ModelStatus::mismatch);
  const auto large = outcome([] { throw std::bad_alloc(); });
  EXPECT_EQ(large.status, ModelStatus::failed);
  EXPECT_EQ(large.error, "m: does not fit into memory");
  EXPECT_EQ(outcome(fail_to_converge).error, "m: no convergence");
}

TEST(outcome_of, the_output_folders_errors_end_the_run) {
  EXPECT_THROW(outcome_of("m", [] { throw InputError(ErrorKind::io, "no room"); }), InputError);
}

TEST(end_of_run, says_whose_fault_it_is) {
  const InputError input(ErrorKind::usage, "problem", "why", "suggestion");
  EXPECT_EQ(end_of_run(input).kind(), ErrorKind::usage);
  EXPECT_STREQ(end_of_run(input).what(), input.what());
  const auto text_of = [](const std::exception& error) {
    const InputError end = end_of_run(error);
    EXPECT_EQ(end.kind(), ErrorKind::io);
    return std::string(end.what());
  };
  EXPECT_EQ(text_of(InternalError("layer 3: map::at")), "layer 3: map::at (this is a bug in spectrace)");
  EXPECT_EQ(text_of(std::out_of_range("map::at")), "map::at (this is a bug in spectrace)");
  EXPECT_EQ(text_of(TensorMemoryError("a tensor of 9 GiB does not fit")), "a tensor of 9 GiB does not fit");
  EXPECT_EQ(text_of(std::bad_alloc()).find("bug"), std::string::npos);
  const auto refused = text_of(std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again)));
  EXPECT_NE(refused.find("Resource temporarily unavailable"), std::string::npos);
  EXPECT_EQ(refused.find("bug"), std::string::npos);
  const auto end_of = [&](const std::function<void()>& f) {
    try {
      f();
    } catch (const std::exception& error) {
      return text_of(error);
    }
    return std::string();
  };
  EXPECT_EQ(end_of(fail_on_device), "CUDA out of memory");
  EXPECT_EQ(end_of(kBugs.at("libtorch")), "no such shape (this is a bug in spectrace)");
}

}  // namespace
}  // namespace spectrace
