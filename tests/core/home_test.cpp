#include "spectrace/core/home.hpp"

#include <gtest/gtest.h>

#include <cstdlib>

namespace spectrace {
namespace {

TEST(ExpandHome, only_a_tilde_of_its_own) {
  const char* const home = std::getenv("HOME");
  const std::string before = home == nullptr ? "" : home;
  ::setenv("HOME", "/people/me", 1);
  EXPECT_EQ(expand_home("~"), "/people/me");
  EXPECT_EQ(expand_home("~/models/x"), "/people/me/models/x");
  for (const char* path : {"", "~you/models", "models/~", "./~/x", "/abs"}) EXPECT_EQ(expand_home(path), path);
  ::unsetenv("HOME");
  EXPECT_EQ(expand_home("~/x"), "~/x");
  if (home != nullptr) ::setenv("HOME", before.c_str(), 1);
}

}  // namespace
}  // namespace spectrace
