"""Where an ELF file's bytes come from: an open file, or memory. Positioned reads only, never a mapping.

A mapped file that somebody truncates kills the reader with SIGBUS; a read merely comes back short.
"""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from typing_extensions import Buffer


class Source(Protocol):
    """Bytes with a size. `read` gives fewer than `count` bytes only at the end."""

    @property
    def size(self) -> int:
        """Bytes in all."""

    def read(self, offset: int, count: int) -> bytes:
        """At most `count` bytes from `offset` on."""

    def close(self) -> None:
        """Let go of what is held; a second call does nothing."""


class FileSource:
    """An open file. Owns the descriptor."""

    def __init__(self, descriptor: int) -> None:
        """`descriptor` is readable and seekable."""
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    def read(self, offset: int, count: int) -> bytes:
        """At most `count` bytes from `offset` on; OSError where the file cannot be read."""
        count = min(count, self.size - offset)
        pieces = []
        while count > 0 and (piece := os.pread(self._descriptor, count, offset)):
            pieces.append(piece)
            offset += len(piece)
            count -= len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """Close the descriptor."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        """Close what nobody closed."""
        self.close()


class BytesSource:
    """Bytes that are already here."""

    def __init__(self, content: bytes) -> None:
        """`content` is the whole file."""
        self._content = content
        self.size = len(content)

    def read(self, offset: int, count: int) -> bytes:
        """At most `count` bytes from `offset` on."""
        return self._content[offset : offset + max(count, 0)]

    def close(self) -> None:
        """Nothing is held."""


class SourceStream(io.RawIOBase):
    """A source as the binary stream that pyelftools reads. Does not own the source."""

    def __init__(self, source: Source) -> None:
        """The position starts at 0."""
        self._source = source
        self._position = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to `offset` from the start, the position or the end."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._source.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill `buffer` as far as there are bytes, and say how far."""
        view = memoryview(buffer).cast("B")
        piece = self._source.read(self._position, len(view))
        view[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)
