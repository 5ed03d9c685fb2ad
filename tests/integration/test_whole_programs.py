"""Every instruction of whole functions of real programs is probed at once: same output, and counts that add up."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import uprobes

SQL = (
    "create table t(a, b); insert into t with recursive c(x) as (select 1 union all select x + 1 from c where x < 40)"
    " select x, x * 7 % 13 from c; select b, count(*), sum(a) from t group by b order by 2, 1;"
)
INFLATE = "import sys, zlib; d = bytes(range(256)) * 8; sys.exit(zlib.decompress(zlib.compress(d)) != d)"
MATCH = "[[ abbabac12 =~ ^(ab|ba)+c([[:digit:]]+)$ ]] && echo ${BASH_REMATCH[2]}"

PROGRAMS = {
    "a hash of openssl": (["openssl", "dgst", "-sha256", "{text}"], ["libcrypto:SHA256_*", "libcrypto:EVP_Digest*"]),
    "sqlite's query loop": (["sqlite3", ":memory:", SQL], ["libsqlite3:sqlite3_step", "libsqlite3:sqlite3_column_*"]),
    "an inflate": ([sys.executable, "-I", "-S", "-c", INFLATE], ["libz:inflate*", "libz:adler32*"]),
    "a regex": (["bash", "-c", MATCH], ["libc:re_*", "libc:regexec*"]),
    "a sort": (["sort", "{text}"], ["libc:qsort*", "libc:strcoll*", "libc:memcmp"]),
}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A file for the programs to read."""
    path = tmp_path_factory.mktemp("text") / "lines"
    path.write_text("".join(f"{i * 7919 % 257:03} abbac{i} bbab\n" for i in range(60)))
    return path


def run_probed(argv: list[str], specs: list[str], mode: str, output: Path) -> tuple[dict[str, int], int]:
    """Run a program with every instruction of the functions probed; the counts by place, and its exit code."""
    # Python loads its libz late; preloaded it is there from the start.
    environment = {**os.environ, "LD_PRELOAD": "libz.so.1"}
    with output.open("wb") as stdout, uprobes.spawn(argv, stdout=stdout.fileno(), env=environment) as target:
        addresses: set[int] = set()
        for spec in specs:
            addresses.update(target.instructions(spec))
        probe = target.probe(sorted(addresses), mode=mode)
        target.run(timeout=100)
        assert not target.alive
        refused = [site for site in probe.sites if site.refusal]
        assert not refused
        counts = {f"{site.symbol}+{site.offset:#x}": site.hits for site in probe.sites}
        assert sum(counts.values()) == probe.hits
        return counts, target.exit_code


@pytest.mark.parametrize("name", PROGRAMS)
def test_same_output_and_counts_in_both_modes(name, text, tmp_path):
    words, specs = PROGRAMS[name]
    argv = [word.format(text=text) if "{text}" in word else word for word in words]
    if shutil.which(argv[0]) is None:
        pytest.skip(f"{argv[0]} is not installed")
    bare = subprocess.run(argv, capture_output=True, check=True)
    try:
        trapped, trap_code = run_probed(argv, specs, "auto", tmp_path / "trap")
    except uprobes.ModuleNotFound as error:
        pytest.skip(str(error))
    stepped, step_code = run_probed(argv, specs, "step", tmp_path / "step")
    assert (trap_code, step_code) == (0, 0)
    assert (tmp_path / "trap").read_bytes() == bare.stdout
    assert (tmp_path / "step").read_bytes() == bare.stdout
    assert sum(trapped.values()) > 100
    assert trapped == stepped


@pytest.mark.parametrize("mode", ["auto", "step"])
def test_every_instruction_of_a_small_program(builder, tmp_path, mode):
    """The victim counts its own calls; each function's first instruction must have been reached as often."""
    program = builder.build("busy_threads")
    orders = tmp_path / "orders"
    orders.write_text("1\n")
    with orders.open() as stdin:
        bare = subprocess.run([str(program)], stdin=stdin, capture_output=True, text=True, check=True).stdout
    output = tmp_path / "output"
    with orders.open() as stdin, output.open("wb") as stdout:
        target = uprobes.spawn([str(program)], stdin=stdin.fileno(), stdout=stdout.fileno())
    with target:
        probe = target.probe(target.instructions("busy_threads:*"), mode=mode)
        target.run(timeout=100)
        assert target.exit_code == 0
        entries = {site.symbol: site.hits for site in probe.sites if site.offset == 0}
    assert output.read_text() == bare
    reports = dict(line.rsplit(" ", 1) for line in bare.splitlines() if " " in line)
    called = {name: int(count) for name, count in reports.items() if name.startswith("work_")}
    assert called
    assert {name: entries[name] for name in called} == called
