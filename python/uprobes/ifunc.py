"""Functions that the loader chooses (IFUNCs, as memcpy): which one it chose for a process.

The symbol is that of a resolver, which has run once by the time anybody attaches. Its answers stand in the tables that
calls go through; those are read from the process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uprobes.mapped_file import read_memory
from uprobes.procfs import ProcDirectory
from uprobes.symbols.relocations import R_64, R_GLOB_DAT, R_IRELATIVE, R_JUMP_SLOT, read_relocations
from uprobes.symbols.symbol_table import read_dynamic_symbols

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from uprobes.module import Module
    from uprobes.symbols.location import Location

_BY_NAME = frozenset({R_64, R_GLOB_DAT, R_JUMP_SLOT})
_WORD = 8


def find_implementations(module: Module, resolver: Location, modules: Sequence[Module]) -> list[int]:
    """The addresses in the process of what `resolver`, in `module`, chose; sorted. None while nobody has asked it.

    TargetGone, NotPermitted.
    """
    with ProcDirectory(module.pid) as process:
        for slots in (_own_slots(module, resolver), _slots_by_name(resolver, modules)):
            words = (read_memory(process, address, _WORD) for address in slots)
            found = {int.from_bytes(word, "little") for word in words}
            chosen = sorted(address for address in found if _is_implementation(module, resolver, address))
            if chosen:
                return chosen
    return []


def _is_implementation(module: Module, resolver: Location, address: int) -> bool:
    """Not so while the table still leads to the linkage table, which asks the loader at the first call."""
    vaddr = module.vaddr_of(address)
    return address in module and vaddr != resolver.symbol_vaddr and module.binary.functions.is_code(vaddr)


def _own_slots(module: Module, resolver: Location) -> Iterator[int]:
    """Where the module itself keeps the answer."""
    for relocation in read_relocations(module.binary.elf):
        if relocation.type == R_IRELATIVE and relocation.addend == resolver.symbol_vaddr:
            yield module.address_of(relocation.vaddr)


def _slots_by_name(resolver: Location, modules: Sequence[Module]) -> Iterator[int]:
    """Where others keep it, who know the function by its name."""
    names = {(name or "").partition("@")[0] for name in (resolver.symbol, *resolver.aliases)}
    for module in modules:
        symbols = read_dynamic_symbols(module.binary.elf)
        numbers = {number for name in names for number in symbols.indexes_of(name)} if symbols else set()
        if numbers:
            for relocation in read_relocations(module.binary.elf):
                if relocation.type in _BY_NAME and relocation.symbol in numbers:
                    yield module.address_of(relocation.vaddr)
