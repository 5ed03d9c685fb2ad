"""Exchanging what is behind a mapping of ours: see remap.pyi for what Python sees."""
