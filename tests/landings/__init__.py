"""Real programs, single-stepped: every place to which control came is compared with what the analysis says.

The proof of the windows: no transfer of control ever led into the middle of one, and each instruction that ran began
where the analysis says that one begins.
"""

import os
import shutil
import subprocess
import tempfile
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.oracle.build import compile_program
from uprobes.errors import DecodeError, UprobeError
from uprobes.insn import decode
from uprobes.mapping import parse_mappings
from uprobes.refusal import Refusal
from uprobes.symbols.elf import ElfFile
from uprobes.windows import ModuleWindows, module_windows

STEPPER = Path(__file__).parent / "stepper.c"
SYSTEM_CALLS = (b"\x0f\x05", b"\x0f\x34", b"\xcd\x80")
DEADLINE = 600.0


@dataclass
class Verdict:
    """What was seen of one or more programs. `interior` and `inside` are the faults, each described."""

    transfers: int = 0
    """Different pairs of instructions, one run after the other, of which the second was judged."""
    landings: int = 0
    """Those of them that were no fall-through."""
    unmarked: int = 0
    """Landings that no target was marked for; in no window, so they harm nothing."""
    interior: list[str] = field(default_factory=list)
    """Landings behind the start of a window."""
    inside: list[str] = field(default_factory=list)
    """Instructions that began where the analysis says that none does."""
    modules: set[str] = field(default_factory=set)

    def add(self, other: "Verdict") -> None:
        """Count another's, too."""
        self.transfers += other.transfers
        self.landings += other.landings
        self.unmarked += other.unmarked
        self.interior += other.interior
        self.inside += other.inside
        self.modules |= other.modules


class Module:
    """A mapped file with its windows, and where it is."""

    def __init__(self, path: str, bias: int) -> None:
        self.path = path
        self.bias = bias
        self.elf = ElfFile(path)
        self.windows: ModuleWindows = module_windows(path)

    def code(self, vaddr: int) -> bytes:
        """The bytes of an instruction at an address of the process."""
        return self.elf.read(vaddr - self.bias, 15)


class Layout:
    """The modules of a program, by address."""

    def __init__(self, maps: bytes) -> None:
        by_start = {mapping.start: mapping for mapping in parse_mappings(maps)}
        self._mappings = [by_start[start] for start in sorted(by_start)]
        self._starts = [mapping.start for mapping in self._mappings]
        self._modules: dict[tuple[str, int], Module | None] = {}

    def at(self, vaddr: int) -> Module | None:
        """The module whose code is at an address."""
        place = bisect_right(self._starts, vaddr) - 1
        if place < 0 or not vaddr < (mapping := self._mappings[place]).end or not mapping.executable:
            return None
        if not mapping.is_file:
            return None
        key = mapping.name, mapping.start
        if key not in self._modules:
            self._modules[key] = self._open(mapping.name, mapping.start, mapping.offset)
        return self._modules[key]

    def _open(self, path: str, start: int, offset: int) -> Module | None:
        try:
            with ElfFile(path) as elf:
                vaddr = next(
                    segment.vaddr + offset - segment.offset
                    for segment in elf.load_segments
                    if segment.flags & 1 and segment.offset <= offset + 4095 and offset < segment.end_offset
                )
            return Module(path, start - vaddr)
        except (OSError, UprobeError, StopIteration):
            return None


def watch(command: Sequence[str], steps: int, **environment: str) -> Verdict:
    """Run a program with all its children, `steps` instructions of each single-stepped, and judge it."""
    library = compile_program("landings", [STEPPER], ("-O2", "-fPIC", "-shared", "-fno-stack-protector"))
    directory = Path(tempfile.mkdtemp(prefix="uprobes-landings-"))
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "LD_PRELOAD": str(library), "LANDINGS": str(directory), "LANDINGS_STEPS": str(steps)}
            | environment,
            capture_output=True,
            timeout=DEADLINE,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: exit status {done.returncode}: {done.stderr.decode()[-500:]}")
        found = Verdict()
        for edges in sorted(directory.glob("*.edges")):
            maps = edges.with_suffix(".maps")
            if maps.exists():
                found.add(judge(Layout(maps.read_bytes()), read_edges(edges)))
        return found
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def read_edges(path: Path) -> list[tuple[int, int]]:
    """The pairs in a table, by the second address."""
    table = array("Q", path.read_bytes()[:-4096])
    pairs = zip(table[0::2], table[1::2], strict=True)
    return sorted({(after, before) for before, after in pairs if before and after})


def _length(code: bytes, vaddr: int) -> int:
    try:
        return decode(code, vaddr).length
    except DecodeError:
        return 0


def judge(layout: Layout, edges: Sequence[tuple[int, int]]) -> Verdict:
    """Compare what ran with what is known. `edges`: address after, address before."""
    found = Verdict()
    for after, before in edges:
        module = layout.at(after)
        if module is None or module.windows.text is None:
            continue
        origin = layout.at(before)
        code = origin.code(before) if origin is not None else b""
        if after == before or code.startswith(SYSTEM_CALLS):  # a step of a repeated string; a signal's return
            continue
        found.modules.add(module.path)
        found.transfers += 1
        vaddr = after - module.bias
        (start,), _, (refusal,) = module.windows.find([vaddr])
        if refusal == Refusal.INSIDE:
            found.inside.append(f"{module.path}: {vaddr:#x}")
        if origin is module and before + _length(code, before) == after:
            continue
        found.landings += 1
        if start and start != vaddr:
            found.interior.append(f"{module.path}: {vaddr:#x} from {before:#x}, in the window at {start:#x}")
        elif not module.windows.text.is_target(vaddr):
            found.unmarked += 1
    return found


def real_programs(directory: Path) -> Iterator[tuple[str, list[str]]]:
    """Names and commands of programs that do real work, and leave what they write in `directory`."""
    yield "python", ["/usr/bin/python3.11", "-c", _SCRIPT]
    yield "sqlite", ["sqlite3", ":memory:", _SQL]
    yield "openssl", ["openssl", "dgst", "-sha256", "/etc/passwd"]
    source = directory / "source.c"
    source.write_text("#include <stdio.h>\nint f(int n) { switch (n) { case 1: return 7; case 2: return puts(\"a\");"
                      " case 3: return 9; case 4: return n * 3; case 5: return 1; } return 0; }\n")
    yield "gcc", ["gcc", "-O2", "-c", str(source), "-o", str(directory / "source.o")]


_SCRIPT = """
import json, re, hashlib, decimal, ast, zlib, struct, collections
text = json.dumps({str(n): [n, n / 7, None, True, "x" * n] for n in range(60)})
json.loads(text); re.findall(r"(\\d+)\\.(\\d*)", text); hashlib.sha256(text.encode()).hexdigest()
decimal.Decimal(1) / 7; ast.dump(ast.parse("def f(a, *b): return [x for x in b if x]")); zlib.compress(text.encode())
try: {}["missing"]
except KeyError: pass
def g():
    yield from (n async for n in ()) if False else iter([1])
list(g()); sorted("hello world"); "%5.2f %s %r" % (1.5, "a", b"c"); f"{3.14159:>10.3f}"
class A:
    def __getattr__(self, name): return name
A().x; collections.Counter("abca"); int("123" * 50) ** 3
"""
_SQL = """create table t(a integer primary key, b text); create index i on t(b);
with recursive n(x) as (select 1 union all select x+1 from n where x<60) insert into t select x, hex(x*x) from n;
select count(*), max(b), sum(a) from t where b like '%1%' group by length(b) order by 1 desc;
update t set b=upper(b)||a;
delete from t where a%3=0; select json_group_array(b) from t limit 1; explain query plan select * from t where b='1';"""
