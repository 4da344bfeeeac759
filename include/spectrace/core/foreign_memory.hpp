#pragma once

#include <cstdint>

namespace spectrace {

/// What a document of somebody else's (JSON of a model folder: config, index, tokenizer) may take in memory when it is
/// read: a third of what the process may use, so that what is made of it fits beside it (tokenizers: up to 1.2 times as
/// much again), and 64 MiB in any case, 1 GiB at most. Until the process knows its limit: 1 GiB.
std::int64_t foreign_document_bytes();

/// What the process may use in all. Once, before foreign documents are read by several threads.
void set_process_memory(std::int64_t bytes);

}  // namespace spectrace
