#include "spectrace/text/post_processor.hpp"

#include <algorithm>

#include "unsupported.hpp"

namespace spectrace::text {
namespace {

std::int64_t read_id(const JsonNode& node) {
  const std::int64_t id = node.as_int();
  if (id < 0 || id > kMaxTokenId)
    throw node.error("is no token's id", "ids are from 0 to " + std::to_string(kMaxTokenId));
  return id;
}

}  // namespace

PostProcessor::PostProcessor() : parts_{{true, {}}} {}

PostProcessor::PostProcessor(std::vector<std::int64_t> before, std::vector<std::int64_t> after) {
  if (!before.empty()) parts_.push_back({false, std::move(before)});
  parts_.push_back({true, {}});
  if (!after.empty()) parts_.push_back({false, std::move(after)});
}

PostProcessor PostProcessor::read_template(const JsonNode& node) {
  node.expect_only_keys({"type", "single", "pair", "special_tokens"});
  const JsonNode special_tokens = node.at("special_tokens");
  PostProcessor processor;
  processor.parts_.clear();
  std::size_t num_ids = 0, num_copies = 0;
  const auto too_much = [&] {
    return node.error("the template is not supported",
                      "it puts more than " + std::to_string(kMaxAddedIds) + " ids or " +
                          std::to_string(kMaxPromptCopies) + " copies of the prompt",
                      input_ids_suggestion);
  };
  node.at("single").for_each([&](const JsonNode& piece) {
    piece.expect_only_keys({"Sequence", "SpecialToken"});
    if (const auto sequence = piece.find("Sequence")) {
      if (sequence->at("id").as_string() != "A")
        throw sequence->error("a template for one text asks for another one", "", input_ids_suggestion);
      if (++num_copies > kMaxPromptCopies) throw too_much();
      processor.parts_.push_back({true, {}});
      return;
    }
    Part part{false, {}};
    const JsonNode token = special_tokens.at(piece.at("SpecialToken").at("id").as_string());
    token.at("ids").for_each([&](const JsonNode& id) {
      if (++num_ids > kMaxAddedIds) throw too_much();
      part.ids.push_back(read_id(id));
    });
    processor.parts_.push_back(std::move(part));
  });
  return processor;
}

PostProcessor PostProcessor::read_sequence(const JsonNode& node) {
  node.expect_only_keys({"type", "processors"});
  PostProcessor processor;
  node.at("processors").for_each([&](const JsonNode& part) {
    PostProcessor next = read(part);
    if (next.adds_nothing()) return;
    if (!processor.adds_nothing())
      throw part.error("a second post-processor that adds tokens is not supported", "", input_ids_suggestion);
    processor = std::move(next);
  });
  return processor;
}

PostProcessor PostProcessor::read(const JsonNode& node) {
  const std::string& type = node.at("type").as_string();
  if (type == "TemplateProcessing") return read_template(node);
  if (type == "Sequence") return read_sequence(node);
  if (type == "ByteLevel") {  // trims offsets, which nobody asks for here
    node.expect_only_keys({"type", "add_prefix_space", "trim_offsets", "use_regex"});
    return PostProcessor();
  }
  if (type == "RobertaProcessing" || type == "BertProcessing") {
    node.expect_only_keys({"type", "sep", "cls", "trim_offsets", "add_prefix_space"});
    return PostProcessor({read_id(node.at("cls").element(1))}, {read_id(node.at("sep").element(1))});
  }
  throw unsupported_part(node, "post-processor", type,
                         {"TemplateProcessing", "ByteLevel", "RobertaProcessing", "BertProcessing", "Sequence"});
}

std::vector<std::int64_t> PostProcessor::apply(std::vector<std::int64_t> ids) const {
  if (adds_nothing()) return ids;
  std::vector<std::int64_t> whole;
  for (const Part& part : parts_) {
    const auto& source = part.is_prompt ? ids : part.ids;
    whole.insert(whole.end(), source.begin(), source.end());
  }
  return whole;
}

std::int64_t PostProcessor::largest_id() const {
  std::int64_t largest = -1;
  for (const Part& part : parts_)
    for (const std::int64_t id : part.ids) largest = std::max(largest, id);
  return largest;
}

std::vector<std::int64_t> PostProcessor::ids_before() const {
  std::vector<std::int64_t> ids;
  for (const Part& part : parts_) {
    if (part.is_prompt) break;
    ids.insert(ids.end(), part.ids.begin(), part.ids.end());
  }
  return ids;
}

std::vector<std::int64_t> PostProcessor::ids_after() const {
  std::vector<std::int64_t> ids;
  for (auto part = parts_.rbegin(); part != parts_.rend() && !part->is_prompt; ++part)
    ids.insert(ids.begin(), part->ids.begin(), part->ids.end());
  return ids;
}

}  // namespace spectrace::text
