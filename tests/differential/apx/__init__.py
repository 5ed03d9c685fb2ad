"""APX, which no processor at hand has: ours, LLVM and binutils must agree, or the case is listed (explained.py)."""
