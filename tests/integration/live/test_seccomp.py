"""Targets under seccomp: no call that a filter would kill for is ever made, and what needs none still works."""

import contextlib
import os
import shutil

import pytest

import uprobes
from tests.process import ORDINARY, executable_text
from tests.victim import Victim

MODES = ["auto", "trap", "step"]
KINDS = ["kill", "trap", "errno", "strict"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", [*KINDS, "allow"])
@pytest.mark.parametrize("seal", [True, False])
def test_counts_are_exact_and_it_lives(builder, how, mode, seal):
    with Victim([str(builder.build("filtered")), how]) as filtered:
        before = executable_text(filtered.pid)
        with uprobes.attach(filtered.pid, seal=seal) as target:
            probes = []
            for name in ("work", "load"):
                # What needs a slot is refused where none can be had and stopping everybody was not allowed.
                may_refuse = uprobes.ProbeRefused if how in KINDS and mode == "trap" else ()
                with contextlib.suppress(may_refuse):
                    probes.append(target.probe(f"filtered:{name}", mode=mode))
            filtered.order(50)
            assert filtered.wait_line("done") == "done 50"
            assert [probe.hits for probe in probes] == [50] * len(probes)
            assert mode == "trap" or len(probes) == 2
        assert executable_text(filtered.pid) == before
        filtered.order(5)
        assert filtered.wait_line("done") == "done 55"
        assert filtered.finish()["work"] == 55


@pytest.mark.parametrize("how", KINDS)
def test_as_an_ordinary_user_nothing_is_risked(builder, as_user, how):
    program = builder.build("filtered")
    journals = builder.directory / "journals"
    journals.mkdir(exist_ok=True)
    journals.chmod(0o700)
    if os.geteuid() == 0:
        shutil.chown(journals, ORDINARY)

    def count():
        os.environ["XDG_RUNTIME_DIR"] = str(journals)
        with Victim([str(program), how]) as filtered, uprobes.attach(filtered.pid) as target:
            probe = target.probe("filtered:work")
            filtered.order(20)
            filtered.wait_line("done")
            return probe.hits, filtered.finish()["work"]

    assert as_user(count) == (20, 20)
