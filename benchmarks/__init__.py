"""Measurements: cases that pytest-benchmark runs, peers beside ours, and floors that nothing can go below."""
