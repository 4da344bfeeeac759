#include "special_tokens.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "spectrace/text/limits.hpp"

namespace spectrace::text {
namespace {

constexpr std::array<const char*, 7> kNames = {"bos_token", "eos_token", "unk_token", "sep_token",
                                               "pad_token", "cls_token", "mask_token"};

bool is_standard(const std::string& key) { return std::find(kNames.begin(), kNames.end(), key) != kNames.end(); }

/// A token as a file names it: a bare text, or with flags. Only equal ones are taken for the same.
struct Mention {
  AddedToken token;
  bool is_text = false;
  bool is_unread = false;  ///< an object of tokenizer_config.json, which transformers reads later than the others
  bool operator==(const Mention& other) const { return is_text == other.is_text && token == other.token; }
};

Mention read_mention(const JsonNode& node) {
  if (node.is_object()) return {read_added_token(node), false, true};
  return {AddedToken::special_text(node.as_string()), true, false};
}

std::vector<Mention> read_list(const JsonNode& list) {
  std::vector<Mention> mentions;
  list.for_each([&](const JsonNode& token) { mentions.push_back(read_mention(token)); });
  return mentions;
}

/// Tokens by their names in the order of their first mention.
class NamedTokens {
 public:
  void set(const std::string& name, const std::optional<Mention>& mention) {
    const auto place = find(name);
    if (place == entries_.end()) {
      entries_.push_back({name, mention});
    } else {
      place->mention = mention;
    }
  }
  bool has(const std::string& name) const {
    return std::any_of(entries_.begin(), entries_.end(), [&](const Entry& entry) { return entry.name == name; });
  }
  struct Entry {
    std::string name;
    std::optional<Mention> mention;
  };
  std::vector<Entry>& entries() { return entries_; }
  std::optional<Mention> get(const std::string& name) {
    const auto place = find(name);
    return place == entries_.end() ? std::nullopt : place->mention;
  }

 private:
  std::vector<Entry>::iterator find(const std::string& name) {
    return std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) { return entry.name == name; });
  }
  std::vector<Entry> entries_;
};

std::int64_t read_id_key(const JsonNode& decoder, const std::string& id) {
  if (id.empty() || id.size() > 10 || id.find_first_not_of("0123456789") != std::string::npos ||
      std::stoll(id) > kMaxTokenId)
    throw decoder.error("the key '" + shown(id) + "' is no token's id");
  return std::stoll(id);
}

class Reader {
 public:
  Reader(const TokenizerFiles& files, const std::vector<NumberedToken>& in_tokenizer_json)
      : files_(files), in_tokenizer_json_(in_tokenizer_json) {}

  SpecialTokens read(const TokenizerClass* tokenizer_class) {
    if (files_.config) read_config(*files_.config);
    const auto decoder = files_.config ? files_.config->node.find("added_tokens_decoder") : std::nullopt;
    if (decoder) {
      read_decoder(*decoder);
      warn_of_unread_files();
      if (tokenizer_class != nullptr) warn_of_dropped_tokens(tokenizer_class->name);
    } else {
      if (files_.special_tokens) read_special_tokens_map(*files_.special_tokens);
      if (files_.added_tokens) read_added_tokens_file(*files_.added_tokens);
      for (const NumberedToken& numbered : in_tokenizer_json_) by_id_.insert_or_assign(numbered.id, numbered);
    }
    if (additional_ && !has_extra_) extra_ = *additional_;
    take_flags_of_numbered();
    if (tokenizer_class != nullptr)
      for (const auto& [name, content] : tokenizer_class->default_tokens)
        if (!named_.has(std::string(name)))
          named_.set(std::string(name), Mention{AddedToken::special_text(std::string(content)), true, false});
    return finish();
  }

 private:
  void read_config(const OrderedJson& config) {
    for (const auto& key : config.keys) {
      const Json& value = config.node.json()[key];
      if (is_standard(key)) {
        named_.set(key, value.is_null() ? std::nullopt : std::optional(read_mention(config.node.at(key))));
      } else if (key.ends_with("_token") && value.is_string()) {
        texts_by_name_.set(key, read_mention(config.node.at(key)));
      } else if (key.ends_with("_token") && value.is_object() && value.contains("content")) {
        others_.set(key, read_mention(config.node.at(key)));
      }
    }
    const auto size = [&](const char* key) {
      const auto member = config.node.find(key);
      return member && (member->is_array() || member->is_object()) ? member->size() : 0;
    };
    has_extra_ = config.contains("extra_special_tokens") && !config.node.json()["extra_special_tokens"].is_object();
    if (size("additional_special_tokens") > 0) additional_ = read_list(config.node.at("additional_special_tokens"));
    if (size("extra_special_tokens") > 0) {
      read_extra(config);
    } else if (config.contains("additional_special_tokens")) {  // in its place, even where it is empty
      has_extra_ = true;
      if (additional_) extra_ = *additional_;
    }
  }

  /// extra_special_tokens: a list, or names and tokens.
  void read_extra(const OrderedJson& file) {
    const auto extra = file.node.find("extra_special_tokens");
    if (!extra) return;
    has_extra_ = extra->is_array();
    if (extra->is_object()) {
      for (const auto& name : file.extra_special_tokens) texts_by_name_.set(name, read_mention(extra->at(name)));
      return;
    }
    for (Mention& mention : read_list(*extra))
      if (std::find(extra_.begin(), extra_.end(), mention) == extra_.end()) extra_.push_back(std::move(mention));
  }

  void read_decoder(const JsonNode& decoder) {
    decoder.for_each_member([&](const std::string& key, const JsonNode& token) {
      const std::int64_t id = read_id_key(decoder, key);
      by_id_.insert_or_assign(
          id, NumberedToken{id, read_added_token(token), "added_tokens_decoder of tokenizer_config.json"});
    });
  }

  /// Says more than the configuration where both speak.
  void read_special_tokens_map(const OrderedJson& map) {
    for (const auto& key : map.keys) {
      const Json& value = map.node.json()[key];
      if (key == "extra_special_tokens") {
        read_extra(map);
      } else if (key == "additional_special_tokens") {
        if (!value.is_null()) additional_ = read_list(map.node.at(key));
      } else if (is_standard(key) || (key.ends_with("_token") && (value.is_string() || value.is_object()))) {
        std::optional<Mention> mention;
        if (!value.is_null()) mention = read_mention(map.node.at(key));
        if (mention && !mention->is_text) {
          mention->token.special = true;
          mention->token.normalized = map.node.at(key).get_bool("normalized", false);
          mention->is_unread = false;
        }
        if (is_standard(key)) warn_of_other(key, mention);
        (is_standard(key) ? named_ : others_).set(key, mention);
      }
    }
  }

  void warn_of_other(const std::string& key, const std::optional<Mention>& mention) {
    const auto before = named_.get(key);
    if (!before || !mention || before->token.content == mention->token.content) return;
    warnings_.push_back(key + " is '" + shown(before->token.content) + "' in tokenizer_config.json and '" +
                        shown(mention->token.content) + "' in special_tokens_map.json, which counts");
  }

  void read_added_tokens_file(const OrderedJson& file) {
    std::set<std::string> special;
    for (const auto& [name, mention] : named_.entries())
      if (mention && !mention->is_unread) special.insert(mention->token.content);
    for (const Mention& mention : extra_)
      if (!mention.is_unread) special.insert(mention.token.content);
    for (const auto& content : file.keys) {
      AddedToken token;
      token.content = content;
      token.special = special.contains(content);
      token.normalized = !token.special;
      const JsonNode id_node = file.node.at(content);
      const std::int64_t id = read_token_id(id_node);
      const auto [place, is_first] = by_id_.insert_or_assign(id, NumberedToken{id, token, "added_tokens.json"});
      if (!is_first) throw id_node.error("two tokens have the id " + std::to_string(id));
    }
  }

  /// Where added_tokens_decoder is, transformers reads neither of the older files.
  void warn_of_unread_files() {
    std::set<std::string> known;
    for (const auto& [id, numbered] : by_id_) known.insert(numbered.token.content);
    for (const auto& [name, mention] : named_.entries())
      if (mention) known.insert(mention->token.content);
    for (const NumberedToken& numbered : in_tokenizer_json_) known.insert(numbered.token.content);
    for (const Mention& mention : extra_) known.insert(mention.token.content);
    std::vector<std::string> left_out;
    if (files_.added_tokens)
      for (const auto& content : files_.added_tokens->keys)
        if (!known.contains(content)) left_out.push_back(content);
    if (!left_out.empty())
      warnings_.push_back("added_tokens.json has '" + shown(left_out.front()) + "'" +
                          (left_out.size() > 1 ? " and " + std::to_string(left_out.size() - 1) + " more" : "") +
                          ", added_tokens_decoder of tokenizer_config.json has not; the latter counts");
  }

  /// A class of transformers 5 keeps nothing of tokenizer.json's added tokens that added_tokens_decoder lacks.
  void warn_of_dropped_tokens(std::string_view class_name) {
    std::set<std::string> known;
    for (const auto& [id, numbered] : by_id_) known.insert(numbered.token.content);
    for (const NumberedToken& numbered : in_tokenizer_json_) {
      if (known.contains(numbered.token.content)) continue;
      warnings_.push_back("tokenizer.json has the added token '" + shown(numbered.token.content) +
                          "', added_tokens_decoder of tokenizer_config.json has not; the former counts, as in " +
                          "transformers 4 (" + std::string(class_name) + " of transformers 5: the latter)");
      return;
    }
  }

  /// A special token that the numbered ones have, too, has their flags.
  void take_flags_of_numbered() {
    std::map<std::string, AddedToken> flags;
    for (const auto& [id, numbered] : by_id_) flags.insert_or_assign(numbered.token.content, numbered.token);
    for (auto& [name, mention] : named_.entries())
      if (mention)
        if (const auto found = flags.find(mention->token.content); found != flags.end())
          mention = Mention{found->second, false, false};
  }

  SpecialTokens finish() {
    NamedTokens named;
    for (const char* name : kNames) named.set(name, named_.get(name));
    for (NamedTokens* others : {&others_, &texts_by_name_})
      for (const auto& [name, mention] : others->entries()) named.set(name, mention);

    std::vector<Mention> to_add;
    std::set<std::string> known;
    SpecialTokens result;
    for (const NumberedToken& numbered : in_tokenizer_json_) known.insert(numbered.token.content);
    for (const auto& [id, numbered] : by_id_) {
      result.numbered.push_back(numbered);
      to_add.push_back({numbered.token, false, false});
      known.insert(numbered.token.content);
    }
    std::set<std::string> contents;
    const auto add = [&](const Mention& mention) {
      if (!known.contains(mention.token.content) && std::find(to_add.begin(), to_add.end(), mention) == to_add.end())
        to_add.push_back(mention);
      if (contents.insert(mention.token.content).second) result.contents.push_back(mention.token.content);
    };
    for (const auto& [name, mention] : named.entries())
      if (mention) add(*mention);
    const std::set<std::string> named_contents = contents;
    for (const Mention& mention : extra_) add(mention);
    for (Mention& mention : to_add) {
      if (named_contents.contains(mention.token.content)) mention.token.special = true;
      result.to_add.push_back(std::move(mention.token));
    }
    const auto content_of = [&](const char* name) -> std::optional<std::string> {
      const auto mention = named.get(name);
      if (!mention) return std::nullopt;
      return mention->token.content;
    };
    result.begin = content_of("bos_token");
    result.end = content_of("eos_token");
    result.separator = content_of("sep_token");
    result.classifier = content_of("cls_token");
    result.warnings = std::move(warnings_);
    return result;
  }

  const TokenizerFiles& files_;
  const std::vector<NumberedToken>& in_tokenizer_json_;
  std::map<std::int64_t, NumberedToken> by_id_;
  NamedTokens named_, others_, texts_by_name_;  ///< bos_token and the like; others as objects; others as texts
  std::vector<Mention> extra_;
  std::optional<std::vector<Mention>> additional_;  ///< additional_special_tokens, the older name of the former
  bool has_extra_ = false;
  std::vector<std::string> warnings_;
};

}  // namespace

std::int64_t read_token_id(const JsonNode& node) {
  const std::int64_t id = node.as_int();
  if (id < 0 || id > kMaxTokenId)
    throw node.error("is no token's id", "ids are from 0 to " + std::to_string(kMaxTokenId));
  return id;
}

SpecialTokens read_special_tokens(const TokenizerFiles& files, const std::vector<NumberedToken>& in_tokenizer_json,
                                  const TokenizerClass* tokenizer_class) {
  return Reader(files, in_tokenizer_json).read(tokenizer_class);
}

}  // namespace spectrace::text
