"""One algorithm a module: arrays in, a result with its evidence out; no paths, no logging, no engine knowledge."""
