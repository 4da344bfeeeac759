#include "../../src/checkpoint/mapped_region.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include "expect_input_error.hpp"
#include "support/temp_folder.hpp"

namespace spectrace {
namespace {

namespace fs = std::filesystem;

class MappedRegionTest : public testing::Test {
 protected:
  MappedRegionTest() : page_(static_cast<std::size_t>(::sysconf(_SC_PAGESIZE))) {
    write_file_atomically(path_, std::string(8 * page_, 'x'));
  }

  static std::size_t count(const MappedRegion& region, std::size_t size, char wanted) {
    std::size_t found = 0;
    for (std::size_t i = 0; i < size; ++i) found += static_cast<char>(region.data()[i]) == wanted;
    return found;
  }

  TempFolder folder_;
  fs::path path_ = folder_.path() / "file";
  std::size_t page_;
};

TEST_F(MappedRegionTest, whole_file) {
  const FileReader file(path_);
  const MappedRegion region(file, 3, 7 * page_);
  EXPECT_EQ(count(region, 7 * page_, 'x'), 7 * page_);
  region.expect_whole();
}

TEST_F(MappedRegionTest, file_cut_short_while_it_is_mapped) {
  const FileReader file(path_);
  for (int repeat = 0; repeat < 2; ++repeat) {  // the second region of a thread is watched as well
    write_file_atomically(folder_.path() / "other", std::string(8 * page_, 'x'));
    const FileReader other(folder_.path() / "other");
    const MappedRegion region(other, 3, 8 * page_ - 3);
    fs::resize_file(folder_.path() / "other", 2 * page_ + 5);
    EXPECT_EQ(count(region, 8 * page_ - 3, 'x'), 2 * page_ + 5 - 3);
    expect_input_error(ErrorKind::io,
                       {"other' has become shorter", std::to_string(8 * page_), std::to_string(2 * page_ + 5)},
                       [&] { region.expect_whole(); });
  }
  // Nothing of it stays with the next one.
  const MappedRegion region(file, 0, 8 * page_);
  EXPECT_EQ(count(region, 8 * page_, 'x'), 8 * page_);
  region.expect_whole();
}

TEST_F(MappedRegionTest, file_that_was_cut_short_before) {
  const FileReader file(path_);
  fs::resize_file(path_, page_);
  expect_input_error(ErrorKind::io, {path_.string() + "' has become shorter"},
                     [&] { MappedRegion(file, 0, 8 * page_); });
}

/// By the signal; a sanitizer's handler, which was there first and is asked then, exits with a code of its own.
bool is_ended_by_bus_error(int status) {
#ifdef __SANITIZE_ADDRESS__
  return WIFEXITED(status) && WEXITSTATUS(status) != 0;
#else
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS;
#endif
}

TEST_F(MappedRegionTest, another_bus_error_ends_the_process) {
  const FileReader file(path_);
  EXPECT_EXIT(
      {
        const MappedRegion region(file, 0, page_);
        ::raise(SIGBUS);
        ::raise(SIGBUS);
      },
      is_ended_by_bus_error, "");
}

}  // namespace
}  // namespace spectrace
