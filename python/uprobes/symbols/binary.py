"""A program or library with all that can be known of its code, gathered from wherever it is kept."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Self

from uprobes.errors import SymbolNotFound
from uprobes.symbols.debug_files import DEBUG_ROOTS, find_debug_file, read_embedded_symbols
from uprobes.symbols.elf import ElfFile
from uprobes.symbols.forbidden import Forbidden, read_forbidden
from uprobes.symbols.functions import FunctionIndex
from uprobes.symbols.line_table import LineTable
from uprobes.symbols.markers import Marker, read_markers
from uprobes.symbols.symbol_table import SymbolTable, read_dynamic_symbols, read_symbol_table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from uprobes.refusal import Refusal


class Binary:
    """An ELF file and its debug file. Owns both; a context manager. Reads lazily and keeps what it read.

    Methods raise :class:`~uprobes.errors.InvalidElf` where what they need is damaged.
    """

    def __init__(self, elf: ElfFile, debug_roots: Sequence[str] = DEBUG_ROOTS, root: str = "") -> None:
        """`debug_roots` are directories laid out as /usr/lib/debug is; `root` is where the file's path begins."""
        self.elf = elf
        self._debug_roots = debug_roots
        self._root = root

    @classmethod
    def open(cls, path: str, debug_roots: Sequence[str] = DEBUG_ROOTS) -> Self:
        """The file at `path`; errors as of :class:`~uprobes.symbols.elf.ElfFile`."""
        return cls(ElfFile(path), debug_roots)

    def __enter__(self) -> Self:
        """The binary itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def __repr__(self) -> str:
        """Class and path."""
        return f"<Binary {self.path!r}>"

    def close(self) -> None:
        """Let go of the files; they are opened again if more of them is needed."""
        self.elf.close()
        debug_file = self.__dict__.get("debug_file")
        if debug_file is not None:
            debug_file.close()

    @property
    def path(self) -> str:
        """Where it is."""
        return self.elf.path

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]

    def file_offset(self, vaddr: int) -> int:
        """The offset in the file of the byte at an address; SymbolNotFound where the file has none."""
        offset = self.elf.vaddr_to_offset(vaddr)
        if offset is None:
            raise SymbolNotFound(hex(vaddr), self.name, fact="the file has no bytes for that address")
        return offset

    @cached_property
    def debug_file(self) -> ElfFile | None:
        """The file with symbols and lines that were split off this one, if it is installed."""
        return find_debug_file(self.elf, self._debug_roots, self._root)

    @cached_property
    def functions(self) -> FunctionIndex:
        """Its functions, from every symbol table that there is."""
        return FunctionIndex(self.elf, self.symbol_tables)

    @cached_property
    def symbol_tables(self) -> list[SymbolTable]:
        """All that speak of the file."""
        dynamic = read_dynamic_symbols(self.elf)
        return [*self._local_tables, *([dynamic] if dynamic else [])]

    @cached_property
    def _local_tables(self) -> list[SymbolTable]:
        places = (self.elf, read_embedded_symbols(self.elf), self.debug_file)
        tables = (read_symbol_table(elf, ".symtab") for elf in places if elf)
        return [table for table in tables if table]

    @property
    def has_local_symbols(self) -> bool:
        """Whether functions have names that no other file needs; stripping removes those."""
        return bool(self._local_tables)

    @cached_property
    def lines(self) -> LineTable | None:
        """Its source lines, if it was compiled with debug information and that is here."""
        tables = (LineTable(elf) for elf in (self.elf, self.debug_file) if elf)
        return next((table for table in tables if table), None)

    @cached_property
    def markers(self) -> tuple[Marker, ...]:
        """Its static markers (USDT)."""
        return read_markers(self.elf)

    @cached_property
    def forbidden(self) -> tuple[Forbidden, ...]:
        """Where no probe may be, and why, as far as the file itself tells."""
        return read_forbidden(self.elf)

    def refusal_at(self, vaddr: int) -> Refusal | None:
        """Why no probe may be at an address, as far as the file itself tells."""
        return next((each.refusal for each in self.forbidden if each.start <= vaddr < each.end), None)
