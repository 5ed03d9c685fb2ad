"""The thread that empties rings before they are full."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SHORTEST_S, LONGEST_S = 0.001, 0.02
"""How long it rests where it found nothing: twice as long each time."""


class Drain(threading.Thread):
    """Calls ``update(False)`` again and again, which says whether it moved anything, until ``stop()`` or ``ended()``;
    then ``update(True)`` until nothing is left."""

    def __init__(self, update: Callable[[bool], bool], ended: Callable[[], bool]) -> None:
        """Starts at once."""
        super().__init__(name="uprobes-drain", daemon=True)
        self._update = update
        self._ended = ended
        self._stopping = threading.Event()
        self.start()

    def run(self) -> None:
        """The thread's body."""
        rest = SHORTEST_S
        while not self._stopping.is_set() and not self._ended():
            rest = SHORTEST_S if self._update(False) else min(2 * rest, LONGEST_S)
            self._stopping.wait(rest)
        while self._update(True):
            pass

    def stop(self) -> None:
        """Nothing is written any more: move the rest, and end."""
        self._stopping.set()
        if threading.current_thread() is not self:
            self.join()
