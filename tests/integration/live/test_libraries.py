"""Libraries that come and go: pending probes are there before the first instruction, and no text is restored over
another's.
"""

import os

import pytest

import uprobes
from tests.process import executable_text, wait_until
from tests.victim import Victim

MODES = ["trap", "step"]
LOAD, CALL, UNLOAD, EXECUTE, FORK = 10, 20, 30, 40, 50


@pytest.fixture
def loader(builder):
    """The program, with three libraries beside its directory: 1 and 3 are the same code."""
    program = builder.build("loader")
    for number, factor in ((1, 3), (2, 5), (3, 3)):
        library = builder.build("plugin", "-shared", "-fPIC", f"-DFACTOR={factor}", f"-DNUMBER={number}")
        link = program.parent.parent / f"plugin_{number}.so"
        if not link.exists():
            os.link(library, link)
    with Victim([str(program)]) as started:
        yield started


def tell(victim, *orders):
    for order in orders:
        victim.order(order)
        victim.wait_line(f"done {order}")


@pytest.mark.parametrize("mode", MODES)
def test_a_library_is_probed_before_its_constructor(loader, mode):
    with uprobes.attach(loader.pid) as target:
        probe = target.probe("plugin_1:forward", mode=mode, pending=True)
        assert len(probe.sites) == 0
        assert target.probes == [probe]
        tell(loader, LOAD + 1)
        assert probe.hits == 1
        tell(loader, CALL + 1)
        assert probe.hits == 11
        probe.disable()
        tell(loader, CALL + 1)
        assert probe.hits == 11
    assert loader.finish()["forward"] == 20


@pytest.mark.parametrize("mode", MODES)
def test_a_library_that_comes_again_is_probed_again(loader, mode):
    with uprobes.attach(loader.pid) as target:
        probe = target.probe("plugin_*:forward", mode=mode, pending=True)
        for _ in range(3):
            tell(loader, LOAD + 1, CALL + 1, UNLOAD + 1, LOAD + 2, CALL + 2, UNLOAD + 2)
        assert probe.hits == 6 * 11
        assert len(probe.sites) == 6
    assert loader.finish()["forward"] == 60


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("other", [2, 3])
def test_text_of_another_library_is_not_restored_over(loader, mode, other):
    """The second library lies where the first one was; with number 3 even its bytes are the same."""
    with uprobes.attach(loader.pid) as target:
        tell(loader, LOAD + 1)
        probe = target.probe("plugin_1:forward", mode=mode)
        first = probe.sites[0].address
        tell(loader, CALL + 1, UNLOAD + 1, LOAD + other)
        before = executable_text(loader.pid)
        assert any(start <= first < end and f"plugin_{other}" in path for start, end, path in before)
        probe.disable()
        probe.enable()
        assert executable_text(loader.pid) == before
        again = target.probe(f"plugin_{other}:forward", mode=mode)
        assert again.sites[0].address == first
        tell(loader, CALL + other)
        assert (probe.hits, again.hits) == (10, 10)
        probe.remove()
        tell(loader, CALL + other)
        assert again.hits == 20
    assert executable_text(loader.pid) == before
    loader.finish()


@pytest.mark.parametrize("mode", MODES)
def test_pending_probes_outlive_an_exec(loader, mode):
    seen = []
    with uprobes.attach(loader.pid) as target:

        @target.on("plugin_1:forward", mode=mode, pending=True)
        def _(hit):
            seen.append(hit.site.symbol)

        tell(loader, LOAD + 1, CALL + 1)
        loader.order(EXECUTE)
        loader.wait_line("ready")
        tell(loader, LOAD + 1, CALL + 1)
    assert seen == ["forward"] * 22
    assert loader.finish()["forward"] == 10


@pytest.mark.parametrize("mode", MODES)
def test_a_followed_child_loads_for_itself(loader, mode):
    with uprobes.attach(loader.pid, children="follow") as target:
        probe = target.probe("plugin_1:forward", mode=mode, pending=True)
        tell(loader, FORK + 1)
        (child,) = target.children
        wait_until(lambda: not child.alive, "the child has ended")
        assert [one.hits for one in child.probes] == [3]
        assert probe.hits == 0
        tell(loader, LOAD + 1)
        assert probe.hits == 1
    loader.finish()
