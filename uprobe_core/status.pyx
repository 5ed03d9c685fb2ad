"""The status codes of status.h as a Python enum."""
