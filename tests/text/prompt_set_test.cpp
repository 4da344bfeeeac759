#include "spectrace/text/prompt_set.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "spectrace/core/error.hpp"
#include "spectrace/core/file.hpp"

namespace spectrace {
namespace {

class PromptFile : public testing::Test {
 protected:
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::vector<Prompt> read(const std::string& name, const std::string& content) {
    std::filesystem::create_directories(folder_);
    write_file_atomically(folder_ / name, content);
    return read_prompt_file(folder_ / name);
  }

  std::string read_error(const std::string& name, const std::string& content) {
    try {
      read(name, content);
    } catch (const InputError& error) {
      EXPECT_EQ(error.kind(), ErrorKind::usage);
      EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << error.what();
      return error.what();
    }
    return "";
  }

  std::filesystem::path folder_ =
      std::filesystem::temp_directory_path() / ("spectrace_prompts_" + std::to_string(::getpid()));
};

TEST_F(PromptFile, text_lines_are_numbered_without_the_empty_ones) {
  const auto prompts = read("p.txt",
                            "\xEF\xBB\xBF"
                            "first\r\n\nsecond line \n\n  third");
  ASSERT_EQ(prompts.size(), 3u);
  EXPECT_EQ(prompts[0].text, "first");
  EXPECT_EQ(prompts[1].text, "second line ");
  EXPECT_EQ(prompts[2].text, "  third");
  EXPECT_EQ(prompts[2].id, "2");
}

TEST_F(PromptFile, json_lines_hold_text_or_ids) {
  const auto prompts = read(
      "p.jsonl", "{\"id\": \"x\", \"text\": \"a\\nb\"}\n\n{\"input_ids\": [3, 1]}\r\n{\"id\": 7, \"text\": \"c\"}\n");
  ASSERT_EQ(prompts.size(), 3u);
  EXPECT_EQ(prompts[0].id, "x");
  EXPECT_EQ(prompts[0].text, "a\nb");
  EXPECT_FALSE(prompts[0].input_ids);
  EXPECT_EQ(prompts[1].id, "1");
  EXPECT_EQ(prompts[1].input_ids, std::vector<std::int64_t>({3, 1}));
  EXPECT_EQ(prompts[2].id, "7");
}

TEST_F(PromptFile, tables_have_a_text_column_anywhere) {
  const auto csv = read("p.csv", "note,text,id\n1,\"a, \"\"b\"\"\",x\n2,c,y\n");
  ASSERT_EQ(csv.size(), 2u);
  EXPECT_EQ(csv[0].text, "a, \"b\"");
  EXPECT_EQ(csv[1].id, "y");
  const auto tsv = read("p.tsv", "text\tn\none, two\t1\n");
  ASSERT_EQ(tsv.size(), 1u);
  EXPECT_EQ(tsv[0].text, "one, two");
  EXPECT_EQ(tsv[0].id, "0");
}

TEST_F(PromptFile, bad_content_is_named_by_file_and_line) {
  EXPECT_NE(read_error("p.jsonl", "{\"text\": \"a\"}\n{\"txt\": \"b\"}\n").find("line 2"), std::string::npos);
  EXPECT_NE(read_error("p.jsonl", "{\"txt\": \"b\"}\n").find("'txt'"), std::string::npos);
  EXPECT_NE(read_error("p.jsonl", "{\"id\": \"a\"}\n").find("neither 'text' nor 'input_ids'"), std::string::npos);
  EXPECT_NE(read_error("p.jsonl", "{\"input_ids\": [1, \"2\"]}\n").find("line 1"), std::string::npos);
  EXPECT_NE(read_error("p.jsonl", "{\"text\": \"a\", \"input_ids\": [1]}\n").find("line 1: has both 'text' and"),
            std::string::npos);
  EXPECT_NE(read_error("p.jsonl", "{\"text\": \"a\"}\n{\"text\": \"a\", \"text\": \"b\"}\n")
                .find("line 2: the key 'text' is there twice"),
            std::string::npos);
  EXPECT_NE(read_error("p.jsonl", "{\"text\": " + std::string(200'000, '[')).find("line 1: is nested deeper than 64"),
            std::string::npos);
  EXPECT_NE(read_error("p.jsonl", "{\"text\": 5}\n").find("line 1"), std::string::npos);
  EXPECT_NE(read_error("p.jsonl", "{\"text\": \"a\"}\n\n{\"text\": \n").find("line 3"), std::string::npos);
  EXPECT_NE(read_error("p.txt",
                       "good\nb\xFF"
                       "d\n")
                .find("line 2 is not UTF-8 (at its byte 2)"),
            std::string::npos);
  EXPECT_NE(read_error("p.csv", "prompt\na\n").find("'prompt'"), std::string::npos);
  EXPECT_NE(read_error("p.csv", "text,id\na\n").find("line 2 has 1 fields"), std::string::npos);
  EXPECT_NE(read_error("p.csv", "text,text\na,b\n").find("two columns 'text'"), std::string::npos);
  EXPECT_NE(read_error("p.csv", "").find("is empty"), std::string::npos);
  EXPECT_NE(read_error("p.parquet", "x").find(".jsonl"), std::string::npos);
}

TEST_F(PromptFile, token_ids_are_integers_of_any_size_that_fits) {
  EXPECT_EQ(read("p.jsonl", "{\"input_ids\": [-1, 9223372036854775807, 3.0]}\n")[0].input_ids,
            std::vector<std::int64_t>({-1, INT64_MAX, 3}));
  for (const char* ids : {"[9223372036854775808]", "[1e300]", "[0.5]", "[true]", "[null]", "[[1]]", "{}", "7", "\"1\""})
    EXPECT_NE(read_error("p.jsonl", "{\"text\": \"a\"}\n{\"input_ids\": " + std::string(ids) + "}\n")
                  .find("line 2: /input_ids"),
              std::string::npos)
        << ids;
  std::string many = "{\"input_ids\": [0";
  for (int i = 1; i < 1'000'000; ++i) many += ",7";
  EXPECT_EQ(read("p.jsonl", many + "]}")[0].input_ids->size(), 1'000'000u);
}

TEST_F(PromptFile, empty_files_have_no_prompts) {
  for (const char* content : {"", "\n", "\r\n\r\n", "\xEF\xBB\xBF"}) {
    EXPECT_TRUE(read("p.txt", content).empty());
    EXPECT_TRUE(read("p.jsonl", content).empty());
  }
  EXPECT_TRUE(read("p.csv", "text,id\r\n").empty());
}

TEST_F(PromptFile, foreign_bytes_are_named_by_their_line) {
  EXPECT_NE(read_error("p.txt", "\xFF\xFEz\n").find("line 1 is not UTF-8 (at its byte 1)"), std::string::npos);
  EXPECT_NE(read_error("p.jsonl", "{\"text\": \"a\"}\n{\"text\": \"\xED\xA0\x80\"}").find("line 2 is not UTF-8"),
            std::string::npos);
  EXPECT_NE(read_error("p.jsonl", "{\"text\": \"\\ud800\"}").find("line 1: is not JSON"), std::string::npos);
  EXPECT_NE(read_error("p.csv", "text\n\"a\nb\nc\n").find("line 2 has a quote that is never closed"),
            std::string::npos);
  const std::string nul("a\0b", 3);
  EXPECT_EQ(read("p.txt", nul + "\n")[0].text, nul);  // one character, as any other
  EXPECT_EQ(read("p.csv", "text\n" + nul + "\n")[0].text, nul);
}

TEST_F(PromptFile, many_lines_are_read_and_long_names_cut) {
  std::string lines;
  for (int i = 0; i < 200'000; ++i) lines += "a\n";
  EXPECT_EQ(read("p.txt", lines).size(), 200'000u);
  EXPECT_LT(read_error("p.csv", std::string(1'000'000, 'x') + "\n").size(), 1000u);
  const std::string id = "{\"text\": \"a\", \"id\": \"" + std::string(1'000'000, 'x') + "\"}\n";
  EXPECT_LT(read_error("p.jsonl", id + id).size(), 1000u);
}

TEST_F(PromptFile, huge_file_is_not_read) {
  read("p.txt", "a\n");
  std::filesystem::resize_file(folder_ / "p.txt", std::uintmax_t{1} << 40);
  try {
    read_prompt_file(folder_ / "p.txt");
    FAIL() << "no error";
  } catch (const InputError& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    EXPECT_NE(std::string(error.what()).find("at most 1073741824 are read"), std::string::npos) << error.what();
  }
}

TEST_F(PromptFile, ids_are_unique) {
  EXPECT_NE(read_error("p.csv", "text,id\na,x\nb,x\n").find("'x'"), std::string::npos);
  // A number that is given may be the one that another prompt gets.
  EXPECT_NE(read_error("p.jsonl", "{\"id\": 1, \"text\": \"a\"}\n{\"text\": \"b\"}\n").find("'1'"), std::string::npos);
}

TEST_F(PromptFile, missing_file_is_an_io_error) {
  try {
    read_prompt_file(folder_ / "none.txt");
    FAIL() << "no error";
  } catch (const InputError& error) {
    EXPECT_EQ(error.kind(), ErrorKind::io);
  }
}

}  // namespace
}  // namespace spectrace
