"""From what the user says to addresses in one process."""

from __future__ import annotations

import fnmatch
import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from uprobes.errors import AmbiguousSymbol, ModuleNotFound, SymbolNotFound, UprobeError
from uprobes.ifunc import find_implementations
from uprobes.module import VDSO
from uprobes.place import Place
from uprobes.spec import Kind, ProbeSpec, Provider, is_glob
from uprobes.symbols.locate import locate, locate_address
from uprobes.symbols.near_names import near_names
from uprobes.symbols.returns import locate_exits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from uprobes.module import Module
    from uprobes.symbols.location import Location

SHOWN: Final = 8
"""Module names worth showing when none is near."""

_one_at_a_time = threading.RLock()
"""Files are shared by all modules that are the same, and read lazily."""


def resolve(spec: ProbeSpec, modules: Sequence[Module], pid: int) -> list[Place]:
    """Every place in process `pid` that `spec` stands for, by address, each once.

    `modules` are those of the process, as ``read_modules(pid)`` gives them. A symbol that is no glob is one place:
    AmbiguousSymbol if several modules define it. SymbolNotFound, ModuleNotFound, InvalidElf, TargetGone, NotPermitted.

    A function that the loader chooses (an IFUNC, as memcpy) is where the one is that it chose for this process.
    """
    with _one_at_a_time:
        try:
            if spec.module is None and spec.address is not None:
                return _at_address(spec.address, spec.provider, modules)
            return _resolve(spec, modules, pid)
        except OSError as error:
            if isinstance(error, UprobeError):
                raise
            name = str(error.filename or spec.module or spec)
            raise ModuleNotFound(name, pid=pid, fact=f"its file cannot be read: {error.strerror or error}") from error
        finally:
            for module in modules:
                module.close()


def describe(address: int, modules: Sequence[Module]) -> Place:
    """What is known of an address of the process: nothing but itself where no module is."""
    for module in modules:
        if address in module:
            try:
                return _place(module, locate_address(module.binary, module.vaddr_of(address)))
            finally:
                module.close()
    return Place(address)


def _at_address(address: int, provider: Provider, modules: Sequence[Module]) -> list[Place]:
    """The place at an address, or the exits of the function that begins there."""
    for module in modules:
        if address in module:
            found = [locate_address(module.binary, module.vaddr_of(address))]
            if provider is Provider.URETPROBE:
                found = locate_exits(module.binary, found)
            return [_place(module, location) for location in found]
    return [Place(address)]


def _resolve(spec: ProbeSpec, modules: Sequence[Module], pid: int) -> list[Place]:
    wanted = find_modules(spec.module, modules, pid)
    entry = replace(spec, provider=Provider.UPROBE) if spec.provider is Provider.URETPROBE else spec
    found: list[tuple[Module, Location]] = []
    failures: list[SymbolNotFound] = []
    for module in wanted:
        try:
            found += [(module, location) for location in locate(entry, module.binary)]
        except SymbolNotFound as error:
            failures.append(error)
    if not found:
        raise _found_nowhere(spec, failures)
    if spec.module is None:
        # The loader has copies of its own of what everybody else takes from libc; who means those names the loader.
        found = [each for each in found if not is_loader(each[0])] or found
    if spec.kind is Kind.SYMBOL and not spec.is_glob and len({module for module, _ in found}) > 1:
        raise AmbiguousSymbol(str(spec), [f"{module.name}:{location.name}" for module, location in found])
    chosen = [(module, each) for module, location in found for each in _choose(module, location, modules, spec)]
    if spec.provider is Provider.URETPROBE:
        chosen = _exits(chosen)
    places = {module.address_of(location.vaddr): _place(module, location) for module, location in reversed(chosen)}
    return [places[address] for address in sorted(places)]


def _exits(entries: Sequence[tuple[Module, Location]]) -> list[tuple[Module, Location]]:
    """Where the functions are left that begin at `entries`; without those of which none is known."""
    found: list[tuple[Module, Location]] = []
    failure: SymbolNotFound | None = None
    for module in dict.fromkeys(module for module, _ in entries):
        try:
            own = [location for owner, location in entries if owner is module]
            found += [(module, location) for location in locate_exits(module.binary, own)]
        except SymbolNotFound as error:
            failure = error
    if failure and not found:
        raise failure
    return found


def _choose(module: Module, location: Location, modules: Sequence[Module], spec: ProbeSpec) -> list[Location]:
    """The location itself or, of a function that the loader chooses, what it chose."""
    if not location.is_ifunc or spec.kind is Kind.ADDRESS:
        return [location]
    chosen = find_implementations(module, location, modules)
    if not chosen and not spec.is_glob:
        raise SymbolNotFound(
            location.name,
            module.name,
            fact="the loader chooses it when it is first asked for, and nobody has asked",
            hint=f"the function that chooses is {module.name}:{location.vaddr:#x}",
        )
    vaddrs = (module.vaddr_of(address) + location.offset for address in chosen)
    return [locate_address(module.binary, vaddr) for vaddr in vaddrs] or [location]


def _place(module: Module, location: Location) -> Place:
    return Place(
        vaddr=module.address_of(location.vaddr),
        module=module.path,
        symbol=location.symbol,
        offset=location.offset,
        start_vaddr=None if location.start_vaddr is None else module.address_of(location.start_vaddr),
        location=location,
    )


def _found_nowhere(spec: ProbeSpec, failures: Sequence[SymbolNotFound]) -> SymbolNotFound:
    """The one failure that tells most, or one for all with the names that are near in any module."""
    telling = [failure for failure in failures if failure.near]
    if len(failures) == 1 or (len(telling) == 1 and spec.kind is Kind.LINE):
        return (telling or failures)[0]
    symbol = failures[0].symbol
    near = near_names(symbol, {name for failure in failures for name in failure.near})
    return SymbolNotFound(symbol, spec.module, fact=_NOTHING[spec.kind], near=near)


_NOTHING: Final = {
    Kind.SYMBOL: "no such function",
    Kind.ADDRESS: "no code is there",
    Kind.LINE: "no such source line",
    Kind.MARKER: "no such marker",
}


def is_loader(module: Module) -> bool:
    """Whether it is the dynamic linker."""
    return module.name.startswith("ld-linux")


# ---- modules ----


def find_modules(name: str | None, modules: Sequence[Module], pid: int) -> list[Module]:
    """The modules that `name` can mean: by path, else by file name or soname, else by the stem of one.

    All of them where `name` is None, but for the vDSO, which must be named. ModuleNotFound where there is none.
    """
    if name is None:
        return [module for module in modules if module.path != VDSO]
    if "/" in name:
        found = _having_path(name, modules, pid)
    else:
        matches = _matcher(name)
        tests: tuple[Callable[[Module], bool], ...] = (
            lambda module: matches(module.name),
            lambda module: matches(_stem(module.name)),
            lambda module: module.soname is not None and (matches(module.soname) or matches(_stem(module.soname))),
        )
        found = next((chosen for test in tests if (chosen := [m for m in modules if test(m)])), [])
    if not found:
        raise _module_not_found(name, modules, pid)
    return found


def _having_path(name: str, modules: Sequence[Module], pid: int) -> list[Module]:
    matches = _matcher(name)
    found = [module for module in modules if matches(module.path)]
    if found or is_glob(name):
        return found
    for path in (f"/proc/{pid}/root{name}", name):  # a symbolic link to it, as the process or as we see it
        try:
            status = os.stat(path)
        except OSError:
            continue
        same = [m for m in modules if m.identity and m.identity[:2] == (status.st_dev, status.st_ino)]
        if same:
            return same
    return []


def _matcher(name: str) -> Callable[[str], bool]:
    if is_glob(name):
        return lambda text: fnmatch.fnmatchcase(text, name)
    return lambda text: text == name


def _stem(name: str) -> str:
    """`libc` of `libc.so.6`, `vdso` of `[vdso]`."""
    return name.partition(".so")[0].strip("[]")


def _module_not_found(name: str, modules: Sequence[Module], pid: int) -> ModuleNotFound:
    base = name.rpartition("/")[2]
    names = list(dict.fromkeys(module.name for module in modules))
    near = near_names(_stem(base), {_stem(each) for each in names}) or near_names(base, names)
    hint = None if near else f"it has {', '.join(names[:SHOWN])}{' …' if len(names) > SHOWN else ''}"
    return ModuleNotFound(name, pid=pid, near=near, hint=hint)
