"""Every extension module has a stub that names exactly what Python code can see of it."""

import ast
import importlib

import pytest

from tests.quality.tree import module, name, sources

EXTENSIONS = [path for path in sources("uprobe_core") if path.suffix == ".pyx"]


def public(names):
    """Without what the module machinery adds."""
    return {each for each in names if not each.startswith("_")}


def stub_names(body):
    """The public names that a stub's statements define, and those of each class in it."""
    names, classes = set(), {}
    for node in body:
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            names.add(node.name)
            classes[node.name] = stub_names(node.body)[0]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return public(names), classes


def is_own(value, dotted):
    """Whether the module defines the value, or it is plain data that no other module is known to own."""
    owner = getattr(value, "__module__", None)
    return not hasattr(value, "__path__") and type(value).__name__ != "module" and owner in (None, dotted)


@pytest.mark.parametrize("path", EXTENSIONS, ids=name)
def test_stub_matches(path):
    dotted = module(path)
    built = importlib.import_module(dotted)
    visible = public(key for key, value in vars(built).items() if is_own(value, dotted))
    stub = path.with_suffix(".pyi")
    if not visible and not stub.exists():
        return
    assert stub.exists(), f"{name(stub)} is missing; it should name {sorted(visible)}"
    named, classes = stub_names(ast.parse(stub.read_text()).body)
    assert visible - named == set(), "not in the stub"
    assert named - set(dir(built)) == set(), "only in the stub"
    for class_name, members in classes.items():
        assert members <= set(dir(getattr(built, class_name))), class_name
