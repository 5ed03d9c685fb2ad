"""Times in log-linear buckets."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from uprobe_core.trace.pairing import BUCKETS, bucket_of, bucket_start

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Histogram:
    """How often what took how long, in nanoseconds: exact below 256 ns, then to 1/128 of the value (as HdrHistogram).

    ``count``, ``sum``, ``least`` and ``most`` are exact. Histograms can be added.
    """

    __slots__ = ("buckets", "count", "least", "most", "sum")

    def __init__(
        self, count: int = 0, sum_ns: int = 0, least: int = 0, most: int = 0, buckets: Mapping[int, int] | None = None
    ) -> None:
        """`buckets`: how many, by number of the bucket."""
        self.count = count
        self.sum = sum_ns
        self.least = least
        self.most = most
        self.buckets = Counter(buckets or {})

    def add(self, ns: int, times: int = 1) -> None:
        """Count `ns` (0 to 2**64 - 1), `times` times."""
        self.buckets[bucket_of(ns)] += times
        self.least = min(self.least, ns) if self.count else ns
        self.most = max(self.most, ns)
        self.count += times
        self.sum += ns * times

    @property
    def mean(self) -> float:
        """The arithmetic mean; 0 where nothing was counted."""
        return self.sum / self.count if self.count else 0.0

    def percentile(self, percent: float) -> int:
        """The time that `percent` of all did not exceed, to the bucket's width; 0 where nothing was counted."""
        if not 0 <= percent <= 100:
            raise ValueError(f"percentile {percent}: must be from 0 to 100")
        wanted = max(1, -(-self.count * percent // 100))
        seen = 0
        for _, end, count in self.rows():
            seen += count
            if seen >= wanted:
                return min(max(end - 1, self.least), self.most)
        return self.most

    def rows(self) -> Iterator[tuple[int, int, int]]:
        """Start, end (exclusive) and count of each bucket that is not empty, by rising time."""
        for number in sorted(self.buckets):
            end = bucket_start(number + 1) if number + 1 < BUCKETS else 1 << 64
            yield bucket_start(number), end, self.buckets[number]

    def octaves(self) -> list[tuple[int, int, int]]:
        """The same by powers of two, from the least that occurs to the most, empty ones included."""
        sums: Counter[int] = Counter()
        for start, _, count in self.rows():
            sums[start.bit_length()] += count
        if not sums:
            return []
        return [(1 << n >> 1, 1 << n, sums[n]) for n in range(min(sums), max(sums) + 1)]

    def __add__(self, other: Histogram) -> Histogram:
        """Both together."""
        if not self.count or not other.count:
            one = self if self.count else other
            return Histogram(one.count, one.sum, one.least, one.most, one.buckets)
        return Histogram(
            self.count + other.count,
            self.sum + other.sum,
            min(self.least, other.least),
            max(self.most, other.most),
            self.buckets + other.buckets,
        )

    def __repr__(self) -> str:
        """Count and three percentiles."""
        points = ", ".join(f"p{percent} {self.percentile(percent)} ns" for percent in (50, 99, 100))
        return f"<Histogram {self.count} times, {points}>"
