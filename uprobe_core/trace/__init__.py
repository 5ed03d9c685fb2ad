"""The engine: tasks, stops, hits and the loop that serves them."""
