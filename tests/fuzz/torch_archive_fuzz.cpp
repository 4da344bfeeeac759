#include "fuzz/checkpoint.hpp"

std::string spectrace::fuzz::take(std::string_view bytes) { return take_checkpoint(bytes, "pytorch_model.bin"); }
