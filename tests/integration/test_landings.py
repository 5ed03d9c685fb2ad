"""Real programs, single-stepped: control never comes into the middle of a window. `make landings` takes longer."""

import pytest

from tests.landings import real_programs, watch

STEPS = 60_000


@pytest.mark.parametrize("name", ["python", "sqlite", "openssl"])
def test_no_landing_inside_a_window(name, tmp_path):
    found = watch(dict(real_programs(tmp_path))[name], STEPS)
    assert found.landings > 300, "the program was not stepped"
    assert len(found.modules) >= 3
    assert found.interior == []
    assert found.inside == []
