"""The numeric work: only `@kernel` functions over floats and arrays, called by the modules one level up."""
