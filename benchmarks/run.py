"""Run the cases and write a table: python -m benchmarks.run [arguments of pytest]; `make bench`.

The figures go to build/benchmarks.json and, as Markdown, to build/benchmarks.md and the screen.
"""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build"


def format_ns(nanoseconds: float) -> str:
    """With a unit that fits."""
    for size, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if nanoseconds >= size:
            return f"{nanoseconds / size:,.2f} {unit}"
    return f"{nanoseconds:,.1f} ns"


def processor_name() -> str:
    """As the kernel calls it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def table_row(case: dict) -> str:
    """One case: its median for one unit of work, and how many times the floor that is."""
    extra = case["extra_info"]
    per = extra.get("per", 1)
    median = extra.get("ns", case["stats"]["median"] * 1e9 / per)
    floor = extra.get("floor_ns")
    ratio = f"{median / floor:.2f} ×" if floor else ""
    limit = f"{extra['limit']:g} ×" if extra.get("limit") else ""
    if "limit_ns" in extra:
        limit = format_ns(extra["limit_ns"])
    elif "least" in extra:
        limit = f"at least {extra['least']:g} ×"
    name = case["name"].removeprefix("bench_").replace("_", " ")
    floor_text = format_ns(floor) if floor else ""
    cells = [name, format_ns(median), extra.get("unit", "run"), floor_text, ratio, limit, extra.get("note", "")]
    return f"| {' | '.join(cells)} |"


def write_table(report: dict) -> str:
    """The Markdown text for pytest-benchmark's report."""
    system = f"Linux {platform.release()}, Python {platform.python_version()}"
    lines = [
        f"{processor_name()}, {os.cpu_count()} processors, {system}. Medians.",
        "The floor is the bare cost, measured before each round.",
        "",
        "| case | median | per | floor | ratio | limit | |",
        "|---|--:|---|--:|--:|--:|---|",
        *(table_row(case) for case in report["benchmarks"]),
    ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Run, print, and return pytest's exit code."""
    BUILD.mkdir(exist_ok=True)
    result = BUILD / "benchmarks.json"
    command = [
        sys.executable, "-m", "pytest", "benchmarks/cases", "--benchmark-enable", "--benchmark-only",
        "--benchmark-quiet", f"--benchmark-json={result}", "-q", "--no-header", "-p", "no:cacheprovider",
        "-o", "python_files=bench_*.py", "-o", "python_functions=bench_*", "-o", "timeout=600", *arguments,
    ]  # fmt: skip
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    if result.exists() and result.stat().st_size:
        text = write_table(json.loads(result.read_text()))
        (BUILD / "benchmarks.md").write_text(text)
        print(text)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
