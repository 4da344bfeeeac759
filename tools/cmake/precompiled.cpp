// Nothing: the target that makes the precompiled header needs a source.
