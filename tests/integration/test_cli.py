"""The subcommands, run as a user runs them."""

import json
import os

import pytest

from tests.process import executable_text, tracer_pid


def objects(done):
    """The JSON objects of a command that went well; nothing else may be on its standard output."""
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def spin(victim):
    """A busy victim that must be as before at the end."""
    one = victim("spin")
    before = executable_text(one.pid)
    yield one
    assert tracer_pid(one.pid) == 0
    assert executable_text(one.pid) == before
    assert one.finish()["work"] > 0


# ---- list


def test_list_modules(uprobes_cli, spin):
    names = {each["name"] for each in objects(uprobes_cli("list", "-p", spin.pid, "--json"))}
    assert {"spin", "libc.so.6"} <= names
    shown = uprobes_cli("list", "-p", spin.pid)
    assert shown.returncode == 0
    assert all(name in shown.stdout for name in names)


def test_list_functions_of_a_process(uprobes_cli, spin):
    found = objects(uprobes_cli("list", "-p", spin.pid, "spin:w*", "libc:malloc", "--json"))
    assert [each["symbol"] for each in found] == ["work", "malloc"]
    assert all(int(each["address"], 16) > 0x1000 and each["size"] > 0 for each in found)
    assert "work" in uprobes_cli("list", "-p", spin.pid, "spin:w*").stdout


def test_list_functions_of_a_file(uprobes_cli, builder):
    program = builder.build("calls")
    found = objects(uprobes_cli("list", "--json", f"{program}:*"))
    assert {"add", "six", "eight", "factorial", "main"} <= {each["symbol"] for each in found}
    assert {each["pid"] for each in found} == {None}


def test_list_of_a_command_that_is_never_run(uprobes_cli, tmp_path):
    mark = tmp_path / "mark"
    found = objects(uprobes_cli("list", "--json", "libc:write", "--", "touch", mark))
    assert [each["symbol"] for each in found] == ["write"]
    assert not mark.exists()


# ---- count


@pytest.mark.parametrize("mode", ["auto", "trap", "step"])
def test_count_of_a_process(uprobes_cli, spin, mode):
    (site, summary) = objects(
        uprobes_cli("count", "-p", spin.pid, "--mode", mode, "--for", 0.3, "--budget", 0, "spin:work", "--json")
    )
    assert site["hits"] == summary["hits"] > 0
    assert site["mode"] == ("trap" if mode == "auto" else mode)
    assert summary["restored"]
    assert summary["lost"] == 0
    assert summary["seconds"] >= 0.3


def test_count_table_and_summary(uprobes_cli, spin):
    done = uprobes_cli("count", "-p", spin.pid, "--for", 0.2, "spin:work")
    assert done.returncode == 0
    header, row = (line.split() for line in done.stdout.splitlines() if line.strip())
    assert header == ["hits", "function", "module", "mode"]
    assert row[1:] == ["work", "spin", "trap"]
    assert int(row[0].replace(",", "")) > 0
    assert f"process {spin.pid} runs on, restored" in done.stderr


def test_count_of_a_command(uprobes_cli, builder, tmp_path):
    orders = tmp_path / "orders"
    orders.write_text("500\n")
    with orders.open() as stdin:
        done = uprobes_cli("count", "--json", "hot:hot", "--", builder.build("hot"), stdin=stdin)
    (site, summary) = objects(done)
    assert site["hits"] == 500
    assert not summary["restored"]
    # The command's own output went beside ours.
    assert "hot 500" in done.stderr


def test_count_of_a_command_leaves_its_output_alone(uprobes_cli):
    done = uprobes_cli("count", "libc:write", "--", "echo", "hello")
    assert done.returncode == 0
    assert "hello" in done.stdout.splitlines()


# ---- trace


def test_trace_of_a_command(uprobes_cli, builder, tmp_path):
    orders = tmp_path / "orders"
    orders.write_text("3\n")
    specs = ["calls:add(%d, %d)", "calls:greet(%s)", "calls:eight"]
    with orders.open() as stdin:
        done = uprobes_cli("trace", "--args", 8, *specs, "--", builder.build("calls"), stdin=stdin)
    assert done.returncode == 0, done.stderr
    text = [line.split(None, 2)[2] for line in done.stdout.splitlines() if "(" in line]
    assert text.count("add(40, 2)") == 3
    assert 'greet("world")' in text
    assert 'greet("")' in text
    assert text.count("eight(0x1, 0x2, 0x3, 0x4, 0x5, 0x6, 0x7, 0x8)") == 3
    assert any(line.startswith('greet("a name that is rather longer') and line.endswith('…")') for line in text)


def test_trace_stops_after_a_number_of_calls(uprobes_cli, spin):
    found = objects(uprobes_cli("trace", "-p", spin.pid, "-n", 5, "--json", "spin:work(%lu)"))
    assert [each["type"] for each in found] == ["hit"] * 5 + ["summary"]
    times = [each["time_ns"] for each in found[:5]]
    assert times == sorted(times)
    assert all(isinstance(each["args"][0], int) for each in found[:5])


def test_trace_stops_after_a_time(uprobes_cli, spin):
    assert uprobes_cli("trace", "-p", spin.pid, "--for", 0.2, "spin:work").returncode == 0


def test_trace_with_an_unknown_format(uprobes_cli, spin):
    done = uprobes_cli("trace", "-p", spin.pid, "spin:work(%y)")
    assert done.returncode == 2
    assert "%ld" in done.stderr


# ---- explain


def test_explain_a_place_of_a_file(uprobes_cli, builder):
    program = builder.build("calls")
    (place,) = objects(uprobes_cli("explain", f"{program}:load_sum", "--json"))
    assert place["symbol"] == "load_sum"
    assert place["mnemonic"] == "mov"
    assert place["refusal"] is None
    assert place["patch"] == "cc"
    done = uprobes_cli("explain", f"{program}:load_sum")
    labels = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")]
    assert labels == ["place", "instruction", "effects", "plan", "slot", "patch", "jump"]


def test_explain_a_place_of_a_process_touches_nothing(uprobes_cli, spin):
    (place,) = objects(uprobes_cli("explain", "-p", spin.pid, "spin:work", "--json"))
    assert place["pid"] == spin.pid
    with open(f"/proc/{spin.pid}/mem", "rb") as memory:
        memory.seek(int(place["address"], 16))
        code = bytes.fromhex(place["bytes"])
        assert memory.read(len(code)) == code


def test_explain_inside_an_instruction(uprobes_cli, builder):
    done = uprobes_cli("explain", f"{builder.build('hot')}:hot+1")
    assert done.returncode == 1
    assert "inside an instruction" in done.stdout


@pytest.mark.parametrize(
    ("code", "word"), [("cc", "trap of the program's own"), ("c7f800000000", "transaction"), ("0f0b", "always faults")]
)
def test_explain_a_refusal(uprobes_cli, code, word):
    done = uprobes_cli("explain", "--bytes", code)
    assert done.returncode == 1
    assert word in done.stdout


def test_explain_bytes(uprobes_cli):
    (fact,) = objects(uprobes_cli("explain", "--bytes", "48 8b 05 10 00 00 00", "--at", "0x5000", "--json"))
    assert fact["target"] == hex(0x5000 + 7 + 0x10)
    assert fact["slot"]
    (fact,) = objects(uprobes_cli("explain", "--bytes", "55", "--mode", "step", "--json"))
    assert fact["plan"].startswith("step")


@pytest.mark.parametrize("code", ["zz", "4", "", "06", "ff" * 20])
def test_explain_bytes_that_are_none(uprobes_cli, code):
    done = uprobes_cli("explain", "--bytes", code)
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    assert done.stderr


def test_explain_all_of_a_file(uprobes_cli):
    done = uprobes_cli("explain", "--all", "libc")
    lines = done.stdout.splitlines()
    jumps = next(place for place, line in enumerate(lines) if line.startswith("by jump, no stop:"))
    head, columns, *rows = lines[:jumps]
    assert "need one stop a hit" in head
    assert columns.split() == ["instructions", "share", "stops", "a", "hit", "plan"]
    (fact,) = objects(uprobes_cli("explain", "--all", "libc", "--json"))
    assert fact["one_stop_share"] >= 0.999
    assert fact["instructions"] > 100_000
    assert fact["refusals"]["always_faults"] > 0
    assert fact["jump"]["entries"]["share"] >= 0.995
    reasons = {reason for counts in fact["jump"].values() for reason in counts["refusals"]}
    assert len(lines[jumps + 2 :]) == len(reasons)
    assert len(rows) == len(fact["plans"]) + len(fact["refusals"])
    counted = sum(plan["instructions"] for plan in fact["plans"].values()) + sum(fact["refusals"].values())
    assert counted == fact["instructions"]
    shown = {row.split("%")[1].strip().lstrip("12 "): int(row.split()[0].replace(",", "")) for row in rows}
    assert all(shown[name] == plan["instructions"] for name, plan in fact["plans"].items())


def test_explain_all_in_the_other_mode(uprobes_cli):
    (fact,) = objects(uprobes_cli("explain", "--all", "libc", "--mode", "step", "--json"))
    assert fact["one_stop"] == 0
    assert {plan["stops"] for plan in fact["plans"].values()} == {2}


@pytest.mark.parametrize("words", [("libc:read",), ("--bytes", "90"), ("-p", "1"), ("--rip", "scratch")])
def test_explain_all_stands_alone(uprobes_cli, words):
    done = uprobes_cli("explain", "--all", "libc", *words)
    assert (done.returncode, done.stdout) == (2, "")


# ---- doctor


def test_doctor_of_the_machine(uprobes_cli):
    done = uprobes_cli("doctor")
    assert done.returncode == 0, done.stdout
    assert "ptrace" in done.stdout


def test_doctor_of_a_process(uprobes_cli, spin):
    found = objects(uprobes_cli("doctor", "-p", spin.pid, "--json"))
    assert found
    assert all(each["good"] for each in found)


def test_doctor_of_a_process_that_cannot_be_traced(uprobes_cli, victim, spin):
    other = victim("tracer")
    other.order(spin.pid)
    other.wait_line("seized 1")
    done = uprobes_cli("doctor", "-p", spin.pid)
    assert done.returncode == 77
    assert str(other.pid) in done.stdout
    other.kill()


def test_doctor_of_no_process(uprobes_cli):
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert uprobes_cli("doctor", "-p", child).returncode == 1
