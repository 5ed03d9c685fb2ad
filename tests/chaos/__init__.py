"""Real programs under random probing: what they compute, and their text at the end, is as if nobody had come."""
