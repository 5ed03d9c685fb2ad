"""What goes wrong, as exceptions. Each carries its facts as attributes."""


class UprobeError(Exception):
    """Base of every error of this package."""


class DecodeError(UprobeError, ValueError):
    """Bytes that are no instruction, or arguments that the decoder cannot take."""
