#include "spectrace/checkpoint/hub.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <optional>
#include <string>

#include "expect_input_error.hpp"
#include "support/temp_folder.hpp"

namespace spectrace {
namespace {

namespace fs = std::filesystem;

/// Sets a variable for the length of its life.
class ScopedVariable {
 public:
  ScopedVariable(std::string name, const std::string& value) : name_(std::move(name)) {
    if (const char* before = std::getenv(name_.c_str())) before_ = before;
    ::setenv(name_.c_str(), value.c_str(), 1);
  }
  ~ScopedVariable() {
    if (before_)
      ::setenv(name_.c_str(), before_->c_str(), 1);
    else
      ::unsetenv(name_.c_str());
  }
  ScopedVariable(const ScopedVariable&) = delete;
  ScopedVariable& operator=(const ScopedVariable&) = delete;

 private:
  std::string name_;
  std::optional<std::string> before_;
};

class FindModelFolder : public testing::Test {
 protected:
  FindModelFolder() { fs::create_directories(base_); }

  /// <cache>/models--.../snapshots/<revision>, refs/main only if asked for.
  static fs::path add(const fs::path& cache, const std::string& model, const std::string& revision) {
    const auto snapshot = cache / model / "snapshots" / revision;
    fs::create_directories(snapshot);
    return snapshot;
  }
  static void set_main(const fs::path& cache, const std::string& model, const std::string& revision) {
    set_ref(cache, model, "main", revision);
  }
  static void set_ref(const fs::path& cache, const std::string& model, const fs::path& ref,
                      const std::string& revision) {
    const auto path = cache / model / "refs" / ref;
    fs::create_directories(path.parent_path());
    write_bytes(path, revision);
  }
  fs::path find(const std::string& path, const fs::path& models_root = {}, const std::string& revision = {}) {
    return find_model_folder(path, base_, models_root, revision);
  }

  TempFolder folder_;
  fs::path base_ = folder_.path() / "job", cache_ = folder_.path() / "cache";
  ScopedVariable hub_cache_{"HF_HUB_CACHE", cache_.string()};
  ScopedVariable hf_home_{"HF_HOME", (folder_.path() / "hf_home").string()};
  ScopedVariable old_{"HUGGINGFACE_HUB_CACHE", ""}, xdg_{"XDG_CACHE_HOME", ""}, transformers_{"TRANSFORMERS_CACHE", ""};
  ScopedVariable home_{"HOME", (folder_.path() / "home").string()};
};

TEST_F(FindModelFolder, folders_relative_and_absolute) {
  fs::create_directories(base_ / "tiny");
  fs::create_directories(folder_.path() / "sibling");
  EXPECT_EQ(find("tiny"), base_ / "tiny");
  EXPECT_EQ(find("./tiny"), base_ / "tiny");
  EXPECT_EQ(find("../sibling"), folder_.path() / "sibling");
  EXPECT_EQ(find((base_ / "tiny").string()), base_ / "tiny");
}

TEST_F(FindModelFolder, models_root_comes_before_the_cache) {
  const auto snapshot = add(cache_, "models--org--name", "abc");
  set_main(cache_, "models--org--name", "abc");
  EXPECT_EQ(find("org/name"), snapshot);
  fs::create_directories(folder_.path() / "models" / "org" / "name");
  EXPECT_EQ(find("org/name", folder_.path() / "models"), folder_.path() / "models" / "org" / "name");
  EXPECT_EQ(find("org/name", "../models"), folder_.path() / "models" / "org" / "name");
}

TEST_F(FindModelFolder, revision_of_main) {
  const auto first = add(cache_, "models--gpt2", "aaa"), second = add(cache_, "models--gpt2", "bbb");
  set_main(cache_, "models--gpt2", "aaa\n");
  EXPECT_EQ(find("gpt2"), first);
  set_main(cache_, "models--gpt2", "bbb");
  EXPECT_EQ(find("gpt2"), second);
}

// A snapshot that was fetched by its commit leaves no ref: taken for main it would be another model than was meant.
TEST_F(FindModelFolder, nothing_but_main_is_taken_for_main) {
  const auto a = add(cache_, "models--org--name", "aaa");
  expect_input_error(ErrorKind::model, {"'org/name'", "not its revision main", "there are 'aaa'", "org/name@aaa"},
                     [&] { find("org/name"); });
  add(cache_, "models--org--name", "bbb");
  set_ref(cache_, "models--org--name", "step1000", "bbb");
  expect_input_error(ErrorKind::model, {"not its revision main", "'step1000', 'aaa', 'bbb'"},
                     [&] { find("org/name"); });
  EXPECT_EQ(find("org/name@aaa"), a);
  const auto elsewhere = add(folder_.path() / "hf_home/hub", "models--org--name", "ccc");
  set_main(folder_.path() / "hf_home/hub", "models--org--name", "ccc");
  EXPECT_EQ(find("org/name"), elsewhere);
  set_main(cache_, "models--org--name", "../../elsewhere");
  EXPECT_EQ(find("org/name"), elsewhere);
}

TEST_F(FindModelFolder, every_cache_in_order) {
  const std::string name = "models--m";
  const auto add_main = [&](const fs::path& cache) {
    set_main(cache, name, "r");
    return add(cache, name, "r");
  };
  const ScopedVariable xdg("XDG_CACHE_HOME", (folder_.path() / "xdg").string());
  const ScopedVariable old_hub("HUGGINGFACE_HUB_CACHE", (folder_.path() / "old_hub").string());
  const ScopedVariable transformers("TRANSFORMERS_CACHE", (folder_.path() / "transformers").string());
  for (const char* cache :
       {"transformers", "home/.cache/huggingface/hub", "xdg/huggingface/hub", "hf_home/hub", "old_hub", "cache"}) {
    const auto snapshot = add_main(folder_.path() / cache);
    EXPECT_EQ(find("m"), snapshot) << cache;
  }
}

TEST_F(FindModelFolder, home_and_variables_in_the_caches_names) {
  const ScopedVariable none("HF_HUB_CACHE", ""), one("SPECTRACE_TEST_A", "part"), other("SPECTRACE_TEST_B", "of it");
  const auto expect_at = [&](const std::string& value, const std::string& place) {
    const ScopedVariable hf_home("HF_HOME", value);
    const auto cache = folder_.path() / place / "hub";
    set_main(cache, "models--m", "r");
    const auto snapshot = add(cache, "models--m", "r");
    EXPECT_EQ(find("m"), snapshot) << value;
    fs::remove_all(cache);
  };
  expect_at("~/hf", "home/hf");
  expect_at("$HOME/$SPECTRACE_TEST_A.x", "home/part.x");
  expect_at("${HOME}/a${SPECTRACE_TEST_B}$SPECTRACE_TEST_A", "home/aof itpart");
  const std::string root = folder_.path().string();
  for (const char* as_it_is : {"$SPECTRACE_TEST_NONE/x", "a$", "a$/b", "${SPECTRACE_TEST_A", "${}", "$$", "{x}"})
    expect_at(root + "/" + as_it_is, as_it_is);
}

TEST_F(FindModelFolder, revision_by_ref_commit_or_its_first_letters) {
  const auto a = add(cache_, "models--org--name", "aab1"), b = add(cache_, "models--org--name", "aac2");
  set_main(cache_, "models--org--name", "aab1");
  set_ref(cache_, "models--org--name", "step1000", "aac2\n");
  set_ref(cache_, "models--org--name", "refs/pr/7", "aac2");
  EXPECT_EQ(find("org/name"), a);
  EXPECT_EQ(find("org/name@main"), a);
  for (const char* revision : {"step1000", "aac2", "aac", "refs/pr/7"}) {
    EXPECT_EQ(find("org/name", {}, revision), b) << revision;
    EXPECT_EQ(find(std::string("org/name@") + revision), b) << revision;
  }
  EXPECT_EQ(find("org/name", cache_, "step1000"), b);  // a copied cache
  expect_input_error(ErrorKind::model, {"'aa'", "'aab1'", "'aac2'"}, [&] { find("org/name", {}, "aa"); });
  expect_input_error(ErrorKind::model, {"'step2000'", "'org/name'", "'main', 'refs/pr/7', 'step1000', 'aab1', 'aac2'"},
                     [&] { find("org/name", {}, "step2000"); });
  expect_input_error(ErrorKind::model, {"'../../x' is no revision"}, [&] { find("org/name@../../x"); });
}

TEST_F(FindModelFolder, revision_of_another_cache) {
  add(cache_, "models--m", "aaa");
  const auto other = add(folder_.path() / "hf_home/hub", "models--m", "bbb");
  EXPECT_EQ(find("m@bbb"), other);
}

TEST_F(FindModelFolder, folder_with_an_at_sign) {
  fs::create_directories(base_ / "org/name@v2");
  EXPECT_EQ(find("org/name@v2"), base_ / "org/name@v2");
  EXPECT_EQ(find("org/name@v2", {}, "main"), base_ / "org/name@v2");
}

TEST_F(FindModelFolder, home_folder) {
  fs::create_directories(folder_.path() / "home/models/org/name");
  EXPECT_EQ(find("~/models/org/name"), folder_.path() / "home/models/org/name");
  EXPECT_EQ(find("org/name", "~/models"), folder_.path() / "home/models/org/name");
}

TEST(SplitRevision, only_of_hub_ids) {
  const auto split = [](const char* path) {
    const auto parts = split_revision(path);
    return parts.id + "|" + parts.revision;
  };
  EXPECT_EQ(split("org/name@v1"), "org/name|v1");
  EXPECT_EQ(split("gpt2@refs/pr/1"), "gpt2|refs/pr/1");
  for (const char* path : {"org/name", "/data/org@v1/name", "./a@b", "../a@b", "~/a@b", "@b", "a@", "a/b/c@d"})
    EXPECT_EQ(split(path), std::string(path) + "|") << path;
}

TEST_F(FindModelFolder, refs_that_are_no_refs_are_passed_over) {
  const auto snapshot = add(cache_, "models--m", "aaa");
  const auto refs = cache_ / "models--m/refs";
  fs::create_directories(refs);
  ASSERT_EQ(::mkfifo((refs / "main").c_str(), 0600), 0);
  EXPECT_EQ(find("m@aaa"), snapshot);
  fs::create_symlink(refs / "circle", refs / "circle");
  write_bytes(refs / "holes", "");
  fs::resize_file(refs / "holes", std::uintmax_t{1} << 40);
  write_bytes(refs / "up", "..");
  write_bytes(refs / "out", "../../elsewhere");
  write_bytes(refs / "nul", std::string("a\0a", 3));
  write_bytes(refs / "bytes", "\xff\xfe");
  write_bytes(refs / "long", std::string(300, 'n'));
  for (const char* ref : {"main", "circle", "holes", "up", "out", "nul", "bytes", "long", "circle/x"})
    expect_input_error(ErrorKind::model, {"the revision '" + std::string(ref) + "'", "there are 'aaa'"},
                       [&] { find("m", {}, ref); });
}

TEST_F(FindModelFolder, hostile_paths_are_refused) {
  expect_input_error(ErrorKind::model, {"a\\x00b", "NUL"}, [&] { find(std::string("a\0b", 3)); });
  expect_input_error(ErrorKind::model, {"'\\xff\\xfe' is not on this machine"}, [&] { find("\xff\xfe"); });
  expect_input_error(ErrorKind::model, {"is not on this machine"}, [&] { find(std::string(300, 'n')); });
  fs::create_symlink("circle", base_ / "circle");
  expect_input_error(ErrorKind::model, {"'circle' is not on this machine"}, [&] { find("circle"); });
}

TEST_F(FindModelFolder, says_where_it_looked) {
  fs::create_directories(cache_ / "models--org--name" / "snapshots");
  expect_input_error(
      ErrorKind::model,
      {"'org/name'", (base_ / "org/name").string(), (folder_.path() / "models/org/name").string(),
       (cache_ / "models--org--name").string(), (folder_.path() / "hf_home/hub/models--org--name").string(),
       (folder_.path() / "home/.cache/huggingface/hub/models--org--name").string()},
      [&] { find("org/name", folder_.path() / "models"); });
  expect_input_error(ErrorKind::model, {"empty"}, [&] { find(""); });
  write_bytes(base_ / "model.safetensors", "x");
  expect_input_error(ErrorKind::model, {"it is a file"}, [&] { find("model.safetensors"); });
}

}  // namespace
}  // namespace spectrace
