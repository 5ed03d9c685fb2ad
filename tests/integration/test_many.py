"""Ten thousand probes at once."""

import pytest

import uprobes
from tests.process import executable_text

FUNCTIONS = 10_000


@pytest.mark.parametrize("mode", ["auto", "trap", "step"])
def test_ten_thousand_functions_are_counted_by_one_glob(victim, mode):
    plain = victim("many_functions")
    plain.order(1)
    expected = plain.finish()

    many = victim("many_functions")
    before = executable_text(many.pid)
    with uprobes.attach(many.pid) as target:
        probe = target.probe("many_functions:function_*", mode=mode)
        assert len(probe.sites) == FUNCTIONS
        assert not any(site.refusal for site in probe.sites)
        many.order(1)
        many.wait_line("round")
        assert {site.hits for site in probe.sites} == {1}
        assert probe.hits == FUNCTIONS
    assert executable_text(many.pid) == before
    assert many.finish() == expected
