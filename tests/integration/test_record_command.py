"""`uprobes record` and `uprobes latency` as their users run them."""

import json

import pytest

MASK = (1 << 64) - 1


def objects(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_record_prints_objects_and_a_summary(uprobes_cli):
    script = "echo hello; echo you"
    done = uprobes_cli("record", "--json", "-f", "arg0", "-f", "arg2", "libc:write", "--", "sh", "-c", script)
    *records, summary = objects(done)
    assert [(one["type"], one["symbol"], one["fields"]) for one in records] == [
        ("record", "write", {"arg0": 1, "arg2": 6}),
        ("record", "write", {"arg0": 1, "arg2": 4}),
    ]
    assert (summary["type"], summary["hits"], summary["lost"]) == ("summary", 2, 0)
    assert records[0]["time_ns"] < records[1]["time_ns"]


def test_record_stops_at_its_limit_and_keeps_what_the_condition_says(uprobes_cli):
    loop = "for i in 1 2 3 4 5 6 7 8 9; do echo $i; echo $i$i; done"
    done = uprobes_cli("record", "-f", "arg2", "--when", "arg2 == 3", "-n", 4, "libc:write", "--", "sh", "-c", loop)
    lines = [line for line in done.stdout.splitlines() if "write" in line]
    assert len(lines) == 4
    assert all(line.endswith("write  arg2=0x3") for line in lines)


@pytest.mark.parametrize("end", ["arrow", "parquet"])
def test_record_writes_tables(uprobes_cli, tmp_path, end):
    pytest.importorskip("pyarrow")
    from pyarrow import feather, parquet

    path = tmp_path / f"records.{end}"
    done = uprobes_cli("record", "-f", "arg2", "-o", path, "libc:write", "--", "sh", "-c", "echo hello; echo you")
    assert done.returncode == 0, done.stderr
    table = parquet.read_table(path) if end == "parquet" else feather.read_table(path)
    assert table["arg2"].to_pylist() == [6, 4]
    assert table["site"].to_pylist() == ["write", "write"]


def test_latency_shows_bars_and_percentiles(uprobes_cli):
    done = uprobes_cli("latency", "libc:clock_nanosleep", "--", "sleep", "0.05")
    assert done.returncode == 0, done.stderr
    assert "█" in done.stdout
    row = next(line for line in done.stdout.splitlines() if "clock_nanosleep" in line)
    assert row.split()[0] == "1"
    assert " ms" in row


def test_latency_prints_objects(uprobes_cli):
    done = uprobes_cli("latency", "--json", "libc:clock_nanosleep", "--", "sleep", "0.05")
    times, summary = objects(done)
    assert times["calls"] == 1
    assert times["least_ns"] >= 50_000_000
    ((start, end, count),) = times["buckets"]
    assert start <= times["most_ns"] < end
    assert (count, summary["lost"]) == (1, 0)


def test_count_takes_a_condition(uprobes_cli):
    script = "echo hello; echo you; echo us"
    done = uprobes_cli("count", "--json", "--when", "arg2 == 6", "libc:write", "--", "sh", "-c", script)
    assert objects(done)[-1]["hits"] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["record", "-f", "foo", "libc:write"], "no such field"),
        (["record", "--when", "arg0 <", "libc:write"], "not an expression"),
        (["record", "-o", "records.csv", "libc:write"], "has to end in"),
        (["record", "-o", "/nowhere/records.arrow", "libc:write"], "no directory"),
        (["latency", "--when", "arg7 > 1", "libc:write"], "judged by its reader"),
        (["latency", "libc:write+4"], "offset"),
    ],
)
def test_mistakes_are_told_with_exit_code_2(uprobes_cli, words, message):
    done = uprobes_cli(*words, "--", "true")
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
