"""The kernel: one thin wrapper per facility."""
