#include "spectrace/core/error.hpp"

#include <gtest/gtest.h>

namespace spectrace {
namespace {

TEST(error, a_text_is_not_cut_at_a_zero_byte) {
  const InputError error(ErrorKind::model, std::string("name 'a\0b'", 10), std::string("be\0cause", 8), "Mend it.");
  EXPECT_EQ(std::string(error.what()),
            "name 'a\xEF\xBF\xBD"
            "b' (be\xEF\xBF\xBD"
            "cause) Mend it.");
  EXPECT_EQ(error.problem(),
            "name 'a\xEF\xBF\xBD"
            "b'");
}

}  // namespace
}  // namespace spectrace
