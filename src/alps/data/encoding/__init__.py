"""Examples as token ids, cached and memory-mapped."""
