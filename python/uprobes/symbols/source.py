"""Where an ELF file's bytes come from: an open file, or memory. Positioned reads only, never a mapping.

A mapped file that somebody truncates kills the reader with SIGBUS; a read merely comes back short.
"""

from __future__ import annotations

import errno
import io
import os
import threading
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

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
    """A file, opened when it is read. Closed it is opened again at the next read, and must still be the same file.

    Any thread may use it: none reads from a number that another has closed and the system has given to another file.
    """

    def __init__(self, open_file: Callable[[], int]) -> None:
        """`open_file` gives a readable descriptor, ours from then on; it is called at once and may raise."""
        self._lock = threading.Lock()
        self._open_file = open_file
        self._descriptor = open_file()
        self.identity = _identify(self._descriptor)

    @property
    def size(self) -> int:
        """Bytes in all."""
        return self.identity.size

    def read(self, offset: int, count: int) -> bytes:
        """At most `count` bytes from `offset` on; OSError where the file cannot be read."""
        with self._lock:
            return self._read(offset, min(count, self.size - offset))

    def _read(self, offset: int, count: int) -> bytes:
        if self._descriptor < 0:
            self._descriptor = self._open_file()
            if _identify(self._descriptor) != self.identity:
                self._close()
                raise OSError(errno.ESTALE, "the file was changed while it was in use")
        pieces = []
        while count > 0 and (piece := os.pread(self._descriptor, count, offset)):
            pieces.append(piece)
            offset += len(piece)
            count -= len(piece)
        return b"".join(pieces)

    def reach_by(self, open_file: Callable[[], int]) -> None:
        """From now on open the same file in another way, as where another process has it mapped."""
        self._open_file = open_file

    def close(self) -> None:
        """Close the descriptor."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        """Close what nobody closed."""
        if hasattr(self, "_descriptor"):
            self._close()


class Identity(NamedTuple):
    """A file and its state: equal ones have equal content."""

    device: int
    inode: int
    size: int
    changed: int
    """Nanoseconds since the epoch."""


def _identify(descriptor: int) -> Identity:
    found = os.fstat(descriptor)
    return Identity(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


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
