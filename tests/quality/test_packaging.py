"""What is built and shipped is what there is, and the package can be used where nothing but it is installed."""

import tomllib

from tests.quality.tree import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_package_is_listed():
    listed = set(PROJECT["tool"]["setuptools"]["packages"])
    core = {init.parent.relative_to(ROOT) for init in (ROOT / "uprobe_core").rglob("__init__.py")}
    python = {init.parent.relative_to(ROOT / "python") for init in (ROOT / "python").rglob("__init__.py")}
    assert listed == {".".join(path.parts) for path in core | python}


def test_each_cython_package_has_a_header():
    for init in (ROOT / "uprobe_core").rglob("__init__.py"):
        assert init.with_suffix(".pxd").exists(), init


def test_ci_package_list_is_one_name_a_line():
    names = [line for line in (ROOT / ".ci" / "packages.txt").read_text().split("\n") if line and line[0] != "#"]
    assert len(names) == len(set(names))
    assert all(name == name.strip() and " " not in name for name in names)
