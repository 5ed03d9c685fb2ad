"""Holes: whatever the mappings, an answer is free and allowed, and no answer means that there is none."""

from hypothesis import given
from hypothesis import strategies as st

from uprobes.mapping import HEAP_ROOM, HIGHEST, LOWEST, PAGE, STACK_ROOM, Mapping, find_hole

FILE = ((8, 1), 7, "/bin/program")
NONE = ((0, 0), 0, "")


@st.composite
def address_spaces(draw):
    """Mappings with gaps from a page to hundreds of GiB; one may be the program's, the heap, the stack."""
    sizes = st.integers(1, 64) | st.integers(1, 1 << 16)
    gaps = st.integers(0, 40) | st.integers(0, 1 << 27)
    names = draw(st.lists(st.sampled_from([FILE, NONE, NONE]), max_size=8))
    heap = draw(st.booleans()) and len(names) > 1
    mappings, end = [], LOWEST
    for number, (device, inode, name) in enumerate(names):
        start = end + draw(gaps) * PAGE
        end = start + draw(sizes) * PAGE
        if end > HIGHEST:
            break
        if heap and number == len(names) // 2:
            device, inode, name = (0, 0), 0, "[heap]"
        rights = draw(st.sampled_from(["r-xp", "rw-p", "r--p"]))
        mappings.append(Mapping(start, end, rights, 0, device, inode, name))
    if draw(st.booleans()) and end + STACK_ROOM < HIGHEST:
        mappings.append(Mapping(HIGHEST - 32 * PAGE, HIGHEST, "rw-p", 0, (0, 0), 0, "[stack]"))
    return mappings


def data_end(mappings):
    heap = [mapping.end for mapping in mappings if mapping.name == "[heap]"]
    if heap:
        return heap[0]
    end = None
    for mapping in mappings:
        if mapping.is_file or (mapping.start == end and not mapping.name):
            end = mapping.end
    return end


def is_allowed(mappings, start, size):
    """Whether a mapping at [start, start + size), with a page free around it, would harm nothing."""
    low, high = start - PAGE, start + size + PAGE
    for mapping in mappings:
        floor = mapping.start - (STACK_ROOM if mapping.name == "[stack]" else 0)
        if low < mapping.end and high > floor:
            return False
    grown = data_end(mappings)
    if grown is not None:
        above = min((mapping.start for mapping in mappings if mapping.start >= grown), default=HIGHEST)
        if low < min(grown + HEAP_ROOM, above) and high > grown:
            return False
    return low >= LOWEST - PAGE and start >= LOWEST and high <= HIGHEST


WINDOWS = st.tuples(st.integers(0, HIGHEST), st.integers(0, HIGHEST)).map(sorted) | st.integers(0, HIGHEST).map(
    lambda middle: (middle - (1 << 31), middle + (1 << 31))
)


@given(address_spaces(), st.integers(1, 1 << 24), WINDOWS)
def test_an_answer_is_allowed_and_inside(mappings, size, near):
    found = find_hole(mappings, size, tuple(near))
    if found is not None:
        assert found % PAGE == 0
        assert near[0] <= found
        assert found + size <= near[1]
        assert is_allowed(mappings, found, size)


@given(address_spaces(), st.integers(1, 1 << 24), WINDOWS)
def test_no_answer_means_that_no_place_is_allowed(mappings, size, near):
    if find_hole(mappings, size, tuple(near)) is None:
        size = -(-size // PAGE) * PAGE
        grown = data_end(mappings) or 0
        edges = {near[0], near[1] - size, LOWEST, HIGHEST - size - PAGE, grown + HEAP_ROOM + PAGE}
        for mapping in mappings:
            edges |= {mapping.end + PAGE, mapping.start - size - PAGE, mapping.start - STACK_ROOM - size - PAGE}
        for edge in edges:
            for start in (edge // PAGE * PAGE, -(-edge // PAGE) * PAGE):
                if near[0] <= start and start + size <= near[1]:
                    assert not is_allowed(mappings, start, size)


@given(address_spaces(), st.integers(1, 1 << 20), st.integers(1 << 32, HIGHEST - (1 << 32)))
def test_below_the_code_comes_first(mappings, size, middle):
    near = (middle - (1 << 31), middle + (1 << 31))
    found = find_hole(mappings, size, near)
    code = next((mapping.start for mapping in mappings if mapping.executable and mapping.end > middle), middle)
    if found is not None and found >= code:
        assert find_hole(mappings, size, (near[0], min(code, near[1]))) is None
