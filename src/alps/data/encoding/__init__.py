"""Examples as token ids, encoded once and memory-mapped."""
