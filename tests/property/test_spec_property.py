"""Text and value of a specification are one to one, and no text breaks the parser."""

from hypothesis import given
from hypothesis import strategies as st

from uprobes.errors import SpecError
from uprobes.spec import ProbeSpec, Provider, parse

NAME = st.text("abcXYZ_09.@*?[]-$ ", min_size=1, max_size=12).map(lambda text: "f" + text.strip())
MODULE = st.none() | NAME | NAME.map(lambda name: f"/opt/a:b/{name}") | st.sampled_from(["usdt", "uprobe"])
CODE = st.sampled_from([Provider.UPROBE, Provider.URETPROBE])

SPECS = st.one_of(
    st.builds(ProbeSpec, module=MODULE, symbol=NAME, offset=st.integers(0, 2**31 - 1)),
    st.builds(ProbeSpec, provider=CODE, module=MODULE, symbol=NAME | st.sampled_from(["uprobe", "usdt"])),
    st.builds(ProbeSpec, provider=CODE, module=MODULE, address=st.integers(0, 2**64 - 1)),
    st.builds(ProbeSpec, module=MODULE, file=NAME, line=st.integers(1, 2**31 - 1)),
    st.builds(ProbeSpec, provider=st.just(Provider.USDT), module=MODULE, namespace=NAME, marker=NAME),
)


@given(SPECS)
def test_the_text_of_a_value_parses_to_the_value(spec):
    assert parse(str(spec)) == spec


TEXTS = st.one_of(
    st.text(),
    st.text("ab:+0x12*.c/ \tusdrpobe"),
    st.builds(lambda spec, tail: str(spec) + tail, SPECS, st.text()),
)


def parse_or_error(text):
    try:
        return parse(text)
    except SpecError as error:
        return error


@given(TEXTS)
def test_any_text_is_a_specification_or_an_error_with_a_place(text):
    outcome = parse_or_error(text)
    if isinstance(outcome, SpecError):
        assert 0 <= outcome.position <= len(text)
        assert outcome.hint
    else:
        assert parse(str(outcome)) == outcome
