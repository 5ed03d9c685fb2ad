"""Which names are offered instead of one that does not exist."""

import pytest

from uprobes.symbols.near_names import LIMIT, near_names

NAMES = [
    "malloc",
    "calloc",
    "realloc",
    "free",
    "__malloc",
    "malloc_trim",
    "Py_Malloc",
    "sort.constprop.0",
    "memcpy",
]


@pytest.mark.parametrize(
    ("wanted", "first"),
    [
        ("mallc", "malloc"),
        ("mallocc", "malloc"),
        ("nalloc", "malloc"),
        ("MALLOC", "__malloc"),
        ("sort", "sort.constprop.0"),
        ("trim", "malloc_trim"),
        ("py_malloc", "Py_Malloc"),
        ("mempcy", "memcpy"),
    ],
)
def test_the_likeliest_first(wanted, first):
    assert near_names(wanted, NAMES)[0] == first


@pytest.mark.parametrize("wanted", ["", "___", "zzzzzzzz"])
def test_nothing_alike(wanted):
    assert near_names(wanted, NAMES) == []


def test_never_more_than_the_limit():
    assert len(near_names("name", (f"name{number}" for number in range(10_000)))) == LIMIT


def test_the_best_of_many_is_found():
    names = [f"function_number_{number}" for number in range(200_000)]
    assert near_names("function_nunber_77777", names)[0] == "function_number_77777"
