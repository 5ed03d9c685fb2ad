"""Instructions: bytes and registers in, bytes and registers out. No system calls, no allocation."""
