#pragma once

#include <optional>
#include <string>
#include <vector>

#include "spectrace/core/json.hpp"

namespace spectrace {

/// Which object of a config.json describes the text model. Most models are one; a model of images and text has it in
/// `text_config`, with some of what concerns it beside that.
struct TextPart {
  JsonNode config;                ///< that object
  std::string model_type;         ///< that it names; may be ""
  std::string part_of = {};       ///< model type of the whole; empty: text is all there is
  std::optional<bool> tied = {};  ///< whether the whole ties its head
  std::string warning = {};
};

/// @throws InputError (model) for a whole whose text part does not compute as a text model of its family does.
TextPart text_part(const JsonNode& config);

/// Model types of the wholes whose text part is of this type, where their config does not say another.
std::vector<std::string> wholes_of(const std::string& text_type);

}  // namespace spectrace
