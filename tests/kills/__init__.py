"""SIGKILL at random instants: of the tracer, of the program around it, or of both, while hits are in flight."""
