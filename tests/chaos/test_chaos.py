"""A short chaos, the same every time; `make chaos` runs longer ones."""

import shutil

import pytest

from tests.chaos.campaign import disturb, disturb_redis
from tests.chaos.programs import programs

SECONDS = 3.0


@pytest.mark.parametrize("program", programs(0.6), ids=lambda program: program.name)
def test_programs_compute_what_they_compute_alone(program):
    assert disturb(program, SECONDS, seed=11).total() > 20


@pytest.mark.skipif(not shutil.which("redis-server"), reason="no redis-server here")
def test_a_server_gives_every_answer():
    assert disturb_redis(SECONDS, seed=12).total() > 20
