"""Records as Arrow tables; needs pyarrow, which nothing else of ours does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uprobe_core.abi import RECORD_UNREAD
from uprobes.batch import is_on_stack
from uprobes.errors import UprobeError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from uprobes.batch import Batch


def import_pyarrow() -> Any:
    """The module. UprobeError where it is not installed."""
    try:
        import pyarrow as pa
        import pyarrow.compute
    except ImportError:
        raise UprobeError("pyarrow is not installed", hint="pip install 'uprobes[arrow]'") from None
    return pa


def make_table(batches: Sequence[Batch], fields: Sequence[str]) -> Any:
    """A pyarrow.Table of all records; columns are copied as they are, not value by value."""
    pa = import_pyarrow()
    names = ["time_ns", "tid", "site", "address", *fields]
    types = [pa.uint64(), pa.uint32(), pa.dictionary(pa.int32(), pa.string()), *[pa.uint64()] * (1 + len(fields))]
    schema = pa.schema(list(zip(names, types, strict=True)))
    return pa.Table.from_batches([_arrow_batch(pa, batch, schema) for batch in batches], schema=schema)


def _arrow_batch(pa: Any, batch: Batch, schema: Any) -> Any:
    def column(values: memoryview, kind: Any) -> Any:
        return pa.Array.from_buffers(kind, len(batch), [None, pa.py_buffer(values)])

    raw = column(batch.sites, pa.uint32())
    unread = pa.compute.greater_equal(raw, RECORD_UNREAD) if max(batch.sites, default=0) >= RECORD_UNREAD else None
    numbers = pa.compute.bit_wise_and(raw, pa.scalar(RECORD_UNREAD - 1, pa.uint32())).dictionary_encode()
    sites = [batch.site_of(number) for number in numbers.dictionary.to_pylist()]
    indices = numbers.indices.cast(pa.int32())
    arrays = [
        column(batch.times, pa.uint64()),
        column(batch.tids, pa.uint32()),
        pa.DictionaryArray.from_arrays(indices, pa.array([site.name for site in sites], pa.string())),
        pa.array([site.address for site in sites], pa.uint64()).take(indices),
    ]
    for name in batch.fields:
        values = column(batch.column(name), pa.uint64())
        if unread is not None and is_on_stack(name):
            values = pa.compute.if_else(unread, None, values)
        arrays.append(values)
    return pa.record_batch(arrays, schema=schema)


def write_table(table: Any, path: Path) -> None:
    """Write a table to a file, an Arrow or, by the end of its name, a Parquet one. OSError where that fails."""
    if path.suffix == ".parquet":
        import pyarrow.parquet

        pyarrow.parquet.write_table(table, path)
    else:
        import pyarrow.feather

        pyarrow.feather.write_feather(table, path)
