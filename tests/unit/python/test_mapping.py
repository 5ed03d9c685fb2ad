"""Lines of /proc/PID/maps, and holes between them."""

import pytest

from uprobes.mapping import (
    HEAP_ROOM,
    HIGHEST,
    LOWEST,
    PAGE,
    STACK_ROOM,
    Mapping,
    find_hole,
    mapping_at,
    parse_mappings,
    topmost_end,
)

TEXT = b"""\
555555554000-555555556000 r--p 00000000 fe:00 260131                     /usr/bin/cat
555555556000-55555555b000 r-xp 00002000 fe:00 260131                     /usr/bin/cat
55555555b000-55555555f000 rw-p 00007000 fe:00 260131                     /usr/bin/cat
555555560000-555555581000 rw-p 00000000 00:00 0                          [heap]
7ffff7c00000-7ffff7d00000 r-xs 00000000 08:01 77                         /opt/with  two\\012lines (deleted)
7ffff7fc0000-7ffff7fc2000 r-xp 00000000 00:00 0                          [vdso]
7ffffffde000-7ffffffff000 rw-p 00000000 00:00 0                          [stack]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
"""


def test_lines_are_taken_apart():
    mappings = parse_mappings(TEXT)
    assert mappings[1] == Mapping(
        0x555555556000, 0x55555555B000, "r-xp", 0x2000, (0xFE, 0), 260131, "/usr/bin/cat", False
    )
    assert (mappings[1].executable, mappings[1].writable, mappings[1].shared) == (True, False, False)
    assert mappings[1].is_file
    assert not mappings[3].is_file
    assert mappings[4].name == "/opt/with  two\nlines"
    assert (mappings[4].deleted, mappings[4].shared) == (True, True)
    assert mappings[1].file == mappings[2].file != mappings[4].file


def test_no_lines():
    assert parse_mappings(b"") == []
    assert topmost_end([]) == LOWEST


@pytest.mark.parametrize(
    ("vaddr", "name"),
    [
        (0x555555554000, "/usr/bin/cat"),
        (0x55555555EFFF, "/usr/bin/cat"),
        (0x55555555F000, None),
        (0x7FFFF7FC1FFF, "[vdso]"),
        (0, None),
        (2**64 - 1, None),
    ],
)
def test_mapping_at(vaddr, name):
    found = mapping_at(parse_mappings(TEXT), vaddr)
    assert (found and found.name) == name


def test_the_topmost_end_is_not_that_of_the_vsyscall_page():
    assert topmost_end(parse_mappings(TEXT)) == 0x7FFFFFFFF000


class TestHoles:
    """A program with a heap, libraries above, and the stack on top."""

    maps = parse_mappings(TEXT)
    code = maps[1]

    def around(self, mapping, reach=0x7FFF0000):
        return mapping.start - reach, mapping.end + reach

    def test_directly_below_the_code_with_a_page_between(self):
        assert find_hole(self.maps, 5000, self.around(self.code)) == self.maps[0].start - PAGE - 2 * PAGE

    def test_never_between_the_data_and_what_it_grows_into(self):
        near = (self.code.start, self.code.end + 0x7FFF0000)
        assert find_hole(self.maps, PAGE, near) is None

    def test_above_the_room_for_the_heap_there_is_some(self):
        heap = self.maps[3].end
        assert find_hole(self.maps, PAGE, (heap, heap + HEAP_ROOM)) is None
        assert find_hole(self.maps, PAGE, (heap, heap + HEAP_ROOM + 4 * PAGE)) >= heap + HEAP_ROOM

    def test_before_there_is_a_heap_its_room_is_kept_above_the_data(self):
        maps = [mapping for mapping in self.maps if mapping.name != "[heap]"]
        near = (self.code.start, self.code.end + 0x7FFF0000)
        assert find_hole(maps, PAGE, near) is None

    def test_zeroed_data_that_the_file_does_not_fill_belongs_to_the_program(self):
        bss = Mapping(0x55555555F000, 0x555555569000, "rw-p", 0, (0, 0), 0, "")
        maps = [*self.maps[:3], bss, *self.maps[4:]]
        assert find_hole(maps, PAGE, (bss.end, bss.end + HEAP_ROOM)) is None

    def test_room_is_kept_below_the_stack(self):
        stack = self.maps[6]
        alone = [*self.maps[:4], stack]
        assert find_hole(alone, PAGE, (stack.start - STACK_ROOM, stack.start)) is None
        near = (stack.start - STACK_ROOM - 4 * PAGE, stack.start)
        assert find_hole(alone, PAGE, near) == stack.start - STACK_ROOM - 2 * PAGE

    def test_above_the_code_when_there_is_no_room_below(self):
        library = self.maps[4]
        near = (library.start, library.end + 0x10000)
        assert find_hole(self.maps, PAGE, near) == library.end + PAGE

    def test_the_nearest_hole_below_comes_first(self):
        low = Mapping(0x7FFFF0000000, 0x7FFFF0001000, "rw-p", 0, (0, 0), 0, "")
        maps = [*self.maps[:4], low, *self.maps[4:]]
        found = find_hole(maps, PAGE, self.around(self.maps[5]))
        assert found == self.maps[5].start - 2 * PAGE

    def test_too_large(self):
        assert find_hole(self.maps, 1 << 47, (0, HIGHEST)) is None

    def test_an_empty_address_space_has_room(self):
        assert find_hole([], PAGE, (0, 0x100000)) is not None
        assert find_hole([], PAGE, (0, LOWEST)) is None
