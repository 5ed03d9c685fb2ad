"""Decoding instructions: decode() for one, decode_all() for a buffer."""

from uprobe_core.status import status
from uprobe_core.x86.insn import Insn, Listing, Offsets, decode, decode_all, set_failure
from uprobes.errors import DecodeError

__all__ = ["DecodeError", "Insn", "Listing", "Offsets", "decode", "decode_all"]

_REASONS = {
    status.STATUS_EMPTY: "no bytes",
    status.STATUS_TRUNCATED: "the instruction goes on after them",
    status.STATUS_TOO_LONG: "an instruction has at most 15 bytes",
    status.STATUS_INVALID: "no such instruction",
    status.STATUS_LOCK: "lock on an instruction that cannot have it",
    status.STATUS_PREFIX: "66, f2, f3, lock and rex are illegal before vex, evex and xop",
}
_ARGUMENTS = {
    "bits": "bits must be 64 or 32, not {!r}",
    "vendor": 'vendor must be "amd", "intel" or None, not {!r}',
    "address": "the address must be an integer from 0 to 2**64 - 1, not {!r}",
    "bytes": "the code must be bytes, not {!r:.60}",
}


def _failure(reason: int | str, code: object, looked: int, address: int, bits: int) -> DecodeError:
    """The exception for a status of the decoder, or for an argument named by `reason`."""
    if isinstance(reason, str):
        return DecodeError(_ARGUMENTS[reason].format(code))
    bytes_seen = code[:looked] if isinstance(code, bytes) else b""
    shown = bytes_seen.hex(" ") or "nothing"
    byte = f", at byte {looked - 1}" if looked else ""
    fact = f"cannot decode {shown} at {address:#x} ({bits}-bit){byte}: {_REASONS[status(reason)]}"
    return DecodeError(fact, code=bytes_seen, offset=max(looked - 1, 0))


set_failure(_failure)
