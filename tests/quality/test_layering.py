"""One direction: a file imports from its own layer or a lower one, and never in a circle."""

from graphlib import CycleError, TopologicalSorter

import pytest

from tests.quality.tree import imports, module, name, sources

# From the bottom. The first prefix that fits a module, read from the end, decides.
LAYERS = [
    ("L0 facts", ["uprobe_core", "uprobe_core.abi", "uprobe_core.status"]),
    ("L1 pure", ["uprobe_core.x86"]),
    ("L2 system", ["uprobe_core.linux"]),
    ("L3 text of the target", ["uprobe_core.patch"]),
    ("L4 engine", ["uprobe_core.trace"]),
    ("L5 Python interface", ["uprobes"]),
    ("L6 command line", ["uprobes.cli", "uprobes.__main__"]),
    ("tests and measurements", ["tests", "benchmarks", "demo"]),
]
# What a pure file may use beside its own layers: types and byte copying, nothing that reaches the system.
PURE_LIBRARIES = {"libc.stdint", "libc.string", "libc.stddef", "array", "collections", "enum", "cython"}

SOURCES = [
    path
    for path in sources("uprobe_core", "python", "tests", "benchmarks", "demo")
    if path.suffix in {".py", ".pyx", ".pxd"}
]


def layer(dotted: str) -> int | None:
    """The layer's index, by the longest prefix; None for what is not ours."""
    best, found = "", None
    for index, (_, prefixes) in enumerate(LAYERS):
        for prefix in prefixes:
            if (dotted == prefix or dotted.startswith(prefix + ".")) and len(prefix) > len(best):
                best, found = prefix, index
    return found


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_imports_go_down(path):
    own = layer(module(path))
    assert own is not None, f"{name(path)} is in no layer"
    for imported in imports(path):
        other = layer(imported)
        assert other is None or other <= own, (
            f"{name(path)} ({LAYERS[own][0]}) imports {imported} ({LAYERS[other][0]}) from above"
        )


@pytest.mark.parametrize("path", [p for p in SOURCES if p.match("uprobe_core/x86/*.p[yx][xd]")], ids=name)
def test_pure_layer_reaches_no_system(path):
    for imported in imports(path):
        ours = imported.startswith("uprobe_core")
        python = imported.split(".")[0] == "cpython"
        assert ours or python or imported in PURE_LIBRARIES, f"{name(path)} uses {imported}"


def test_no_import_circle():
    # A .pxd and its .pyx are two nodes: the header is the lower one.
    ours = {module(path) for path in SOURCES}
    graph: dict[str, set[str]] = {}
    for path in SOURCES:
        if path.suffix == ".pxd" or path.name == "__init__.py":
            continue
        own = module(path)
        graph[own] = {other for other in imports(path) if other in ours and other != own}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"imports in a circle: {' -> '.join(error.args[1])}")
