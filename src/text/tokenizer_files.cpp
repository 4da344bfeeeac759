#include "tokenizer_files.hpp"

#include "spectrace/core/file.hpp"
#include "spectrace/text/limits.hpp"

namespace spectrace::text {
namespace {

/// Keeps the keys of a document's object, and of one of its members.
class KeyOrder : public nlohmann::json_sax<Json> {
 public:
  explicit KeyOrder(OrderedJson& target) : target_(target) {}
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return ++depth_; }
  bool end_object() override { return depth_--; }
  bool start_array(std::size_t) override { return ++depth_; }
  bool end_array() override { return depth_--; }
  bool key(string_t& key) override {
    if (depth_ == 1) target_.keys.push_back(member_ = key);
    if (depth_ == 2 && member_ == "extra_special_tokens") target_.extra_special_tokens.push_back(key);
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const Json::exception&) override { return false; }

 private:
  OrderedJson& target_;
  std::string member_;
  std::size_t depth_ = 0;
};

std::string read_bounded(const std::filesystem::path& path) {
  return read_text_file(path, kMaxTokenizerFileBytes, ErrorKind::model);
}

std::optional<OrderedJson> find_object(const std::filesystem::path& path) {
  if (is_absent(path)) return std::nullopt;
  const std::string content = read_bounded(path);
  OrderedJson object{JsonNode::parse_text(content, path.string(), ErrorKind::model)};
  if (!object.node.is_object()) throw object.node.error("is no JSON object");
  KeyOrder order(object);
  Json::sax_parse(content, &order, Json::input_format_t::json, /*strict=*/true, /*ignore_comments=*/true);
  return object;
}

}  // namespace

JsonNode parse_bounded(const std::filesystem::path& path) {
  return JsonNode::parse_text(read_bounded(path), path.string(), ErrorKind::model);
}

TokenizerFiles TokenizerFiles::read(const std::filesystem::path& folder) {
  TokenizerFiles files;
  files.folder = folder;
  const auto has = [&](const char* name) { return !is_absent(folder / name); };
  files.has_tokenizer_json = has("tokenizer.json");
  files.has_vocab_and_merges = has("vocab.json") && has("merges.txt");
  files.config = find_object(folder / "tokenizer_config.json");
  files.special_tokens = find_object(folder / "special_tokens_map.json");
  files.added_tokens = find_object(folder / "added_tokens.json");
  if (has("config.json")) {
    const JsonNode model = parse_bounded(folder / "config.json");
    files.model_type = model.get_string("model_type", "");
    files.model_tokenizer_class = model.get_string("tokenizer_class", "");
  }
  return files;
}

std::optional<bool> TokenizerFiles::find_flag(const char* key) const {
  if (!config) return std::nullopt;
  const auto flag = config->node.find(key);
  if (!flag) return std::nullopt;
  return flag->as_bool();
}

}  // namespace spectrace::text
