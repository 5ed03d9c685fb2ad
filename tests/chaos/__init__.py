"""Chaos: random operations on real programs, whose results and text are compared with what they would be alone."""
