"""Long runs: the decoder against the processor, and against memory checkers."""
