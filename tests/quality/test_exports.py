"""Everything public is there, is documented, and keeps no promise but its own."""

import inspect

import pytest

import uprobes
from tests.quality.tree import ROOT

EXPORTS = [name for name in uprobes.__all__ if not name.startswith("__")]


@pytest.mark.parametrize("name", EXPORTS)
def test_export_is_documented(name):
    value = getattr(uprobes, name)
    assert inspect.getdoc(value)
    if inspect.isclass(value) and value.__module__.startswith("uprobes"):
        for member, attribute in vars(value).items():
            if member.startswith("_") or not (inspect.isroutine(attribute) or isinstance(attribute, property)):
                continue
            assert inspect.getdoc(attribute), f"{name}.{member}"


def test_import_is_cheap():
    """Nothing is imported before it is used, so that the command's help comes at once."""
    text = (ROOT / "python" / "uprobes" / "__init__.py").read_text()
    eager = [line for line in text.splitlines() if line.startswith(("import ", "from ")) and "uprobe" in line]
    assert eager == []


def test_version_is_the_one_of_the_package():
    import tomllib

    assert uprobes.__version__ == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.mark.parametrize("name", ["attach", "spawn"])
def test_entry_points_are_typed(name):
    signature = inspect.signature(getattr(uprobes, name))
    assert signature.return_annotation != inspect.Signature.empty
    assert all(parameter.annotation != inspect.Parameter.empty for parameter in signature.parameters.values())
