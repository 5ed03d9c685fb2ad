"""From what the user says to where it is in one file."""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING

from uprobes.errors import AmbiguousSymbol, SymbolNotFound
from uprobes.spec import Kind, ProbeSpec, Provider, is_glob
from uprobes.symbols.elf import PF_X
from uprobes.symbols.line_addresses import line_addresses
from uprobes.symbols.location import Location
from uprobes.symbols.near_names import near_names
from uprobes.symbols.returns import locate_exits

if TYPE_CHECKING:
    from uprobes.symbols.binary import Binary
    from uprobes.symbols.markers import Marker
    from uprobes.symbols.symbol_table import Symbol


def locate(spec: ProbeSpec, binary: Binary) -> list[Location]:
    """Every place in `binary` that `spec` stands for, by address, each once. The spec's module is not read.

    One place, unless the symbol is a glob, the marker stands in several places or the line was compiled more
    than once. A return probe is at every instruction that leaves the function; of a glob, functions that never return,
    or of which that cannot be told, are left out. :class:`~uprobes.errors.SymbolNotFound` where there is no place,
    :class:`~uprobes.errors.AmbiguousSymbol` where a name stands for several functions or files.
    """
    match spec.kind:
        case Kind.SYMBOL:
            found = _by_symbol(binary, spec.symbol or "", spec.offset)
        case Kind.ADDRESS:
            found = [_by_address(binary, spec.address or 0)]
        case Kind.LINE:
            found = [
                locate_address(binary, vaddr, source=source)
                for source, vaddr in line_addresses(binary, spec.file or "", spec.line or 0)
            ]
        case Kind.MARKER:
            found = _by_marker(binary, spec.namespace or "", spec.marker or "")
    if spec.provider is Provider.URETPROBE:
        return locate_exits(binary, found)
    return found


def locate_address(
    binary: Binary, vaddr: int, *, source: str | None = None, marker: Marker | None = None
) -> Location:
    """What is known about an address, which should be code; `source` and `marker` say how it was found."""
    symbol = binary.functions.at(vaddr)
    extent = binary.functions.extent_at(vaddr)
    aliases = binary.functions.aliases([symbol.vaddr])[symbol.vaddr] if symbol else []
    return Location(
        module=binary.path,
        vaddr=vaddr,
        file_offset=binary.file_offset(vaddr),
        symbol=_label(symbol) if symbol else None,
        symbol_vaddr=symbol.vaddr if symbol else None,
        symbol_size=binary.functions.size_of(symbol) if symbol else 0,
        start_vaddr=extent.start if extent else None,
        end_vaddr=extent.end if extent else None,
        is_ifunc=any(alias.is_ifunc for alias in aliases),
        aliases=tuple(_label(alias) for alias in aliases[1:]),
        source=source,
        marker=marker,
        refusal=binary.refusal_at(vaddr),
    )


# ---- symbols ----


def _label(symbol: Symbol) -> str:
    """The name that stands for the symbol alone."""
    return symbol.name if symbol.is_default else symbol.full_name


def _by_symbol(binary: Binary, name: str, offset: int) -> list[Location]:
    symbols = binary.functions.named(name)
    if symbols:
        symbols = [symbol for symbol in symbols if symbol.is_function] or symbols
        if len({symbol.vaddr for symbol in symbols}) > 1:
            exact = (f"{binary.name}:{symbol.vaddr + offset:#x}" for symbol in symbols)
            raise AmbiguousSymbol(f"{binary.name}:{name}", exact)
    elif is_glob(name):
        symbols = binary.functions.matching(name)
    if not symbols:
        raise _symbol_not_found(binary, name)
    found = _from_symbols(binary, symbols, offset)
    if not found:
        longest = max(binary.functions.size_of(symbol) for symbol in symbols)
        raise SymbolNotFound(
            f"{name}+{offset:#x}",
            binary.name,
            fact=f"the offset lies outside: {longest} bytes long",
            hint=f"offsets go up to +{max(longest - 1, 0):#x}",
        )
    return found


def _from_symbols(binary: Binary, symbols: list[Symbol], offset: int) -> list[Location]:
    """A location for each address where one of `symbols` starts and is longer than `offset`."""
    functions = binary.functions
    asked = {symbol: symbol for symbol in symbols}
    first = {symbol.vaddr: symbol for symbol in reversed(symbols)}
    found = []
    for vaddr, aliases in sorted(functions.aliases(first).items()):
        symbol = next((alias for alias in aliases if alias in asked), first[vaddr])
        # an instruction starts where a function does, but a label may mark data: decode from what encloses it
        extent = functions.extent_of(symbol) if symbol.is_function else functions.extent_at(vaddr)
        size = extent.end - vaddr if extent else 0
        if offset and offset >= size:
            continue
        found.append(
            Location(
                module=binary.path,
                vaddr=vaddr + offset,
                file_offset=binary.file_offset(vaddr + offset),
                symbol=_label(symbol),
                symbol_vaddr=vaddr,
                symbol_size=size,
                start_vaddr=extent.start if extent else None,
                end_vaddr=extent.end if extent else None,
                is_ifunc=any(alias.is_ifunc for alias in (symbol, *aliases)),
                aliases=tuple(_label(alias) for alias in aliases if alias.name != symbol.name),
                refusal=binary.refusal_at(vaddr + offset),
            )
        )
    return found


def _symbol_not_found(binary: Binary, name: str) -> SymbolNotFound:
    functions = binary.functions
    base = name.partition("@")[0]
    fact, hint = "no such function", None
    near: list[str] = []
    if is_glob(name):
        fact = "no function matches"
    elif base != name and (others := functions.versions(base)):
        fact, near = f"{base} has no such version", others
    elif functions.variable(base):
        fact = "it is a variable, not a function"
    elif functions.is_imported(base):
        fact, hint = "the module only calls it", "name the module that defines it, or leave the module out"
    elif near := near_names(base, functions.names()):
        pass
    elif not binary.has_local_symbols:
        fact = "no such function, and the file has no local symbols"
        build = f" (build-id {binary.elf.build_id})" if binary.elf.build_id else ""
        hint = f"install its debug package{build}, or give an address: {binary.name}:0xADDRESS"
    return SymbolNotFound(name, binary.name, fact=fact, near=near, hint=hint)


# ---- addresses ----


def _by_address(binary: Binary, vaddr: int) -> Location:
    code = [segment for segment in binary.elf.load_segments if segment.flags & PF_X]
    if not any(segment.vaddr <= vaddr < segment.vaddr + segment.file_size for segment in code):
        spans = ", ".join(f"{segment.vaddr:#x}-{segment.end_vaddr:#x}" for segment in code)
        raise SymbolNotFound(hex(vaddr), binary.name, fact="no code is there", hint=f"code is at {spans}")
    return locate_address(binary, vaddr)


# ---- markers ----


def _by_marker(binary: Binary, namespace: str, name: str) -> list[Location]:
    def matches(marker: Marker) -> bool:
        return fnmatch.fnmatchcase(marker.provider, namespace) and fnmatch.fnmatchcase(marker.name, name)

    found = {marker.vaddr: marker for marker in filter(matches, binary.markers)}
    if not found:
        names = {f"{marker.provider}:{marker.name}" for marker in binary.markers}
        fact = "no such marker" if names else "the file has no markers"
        raise SymbolNotFound(
            f"{namespace}:{name}", binary.name, fact=fact, near=near_names(f"{namespace}:{name}", names)
        )
    return [locate_address(binary, vaddr, marker=found[vaddr]) for vaddr in sorted(found)]
