"""A slice of chaos: random operations on real programs, which must end as if alone. `make chaos` goes on for longer."""

from random import Random

import pytest

from tests.chaos.operations import Chaos
from tests.chaos.programs import programs

SLICE = 4.0  # seconds a program
NAMES = ["cpython", "sqlite3", "redis"]


@pytest.mark.parametrize("name", NAMES)
def test_a_program_under_chaos_ends_as_if_alone(name, tmp_path):
    program = next((one for one in programs(SLICE - 1) if one.name == name), None)
    if program is None:
        pytest.skip(f"{name} is not installed")
    chaos = Chaos(program, Random(f"{name} 1"))  # noqa: S311 (a seeded one is what is wanted)
    try:
        program.start(tmp_path)
        chaos.run(SLICE)
        program.finish()
    finally:
        program.stop()
    assert chaos.done["compared"]
