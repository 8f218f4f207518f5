"""What mypyc makes of the modules that a wheel compiles, as far as the sources show it."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LONGEST = 32


def compiled_modules() -> list[Path]:
    named = re.search(r"(?ms)^COMPILED = (\(.*?^\))", (ROOT / "setup.py").read_text())
    assert named is not None
    patterns = ast.literal_eval(named[1])
    found = [sorted(ROOT.glob(pattern)) for pattern in patterns]
    assert all(found), "a pattern in setup.py that names nothing"
    return [path for paths in found for path in paths if path.suffix == ".py"]


@pytest.mark.parametrize("path", compiled_modules(), ids=lambda path: path.stem)
def test_a_long_tuple_has_a_type_of_any_length(path):
    """A literal's own type has a member per item, each copied at each use: 257 took minutes."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) != "Final":
            continue
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Tuple):
            assert len(node.value.elts) <= LONGEST, f"line {node.lineno}: give it a type"


def names_of_tuples() -> set[str]:
    names = set()
    for path in (ROOT / "otel_tap").rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Tuple):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names |= {ast.unparse(target) for target in targets}
    return names


@pytest.mark.parametrize("path", compiled_modules(), ids=lambda path: path.stem)
def test_no_tuple_is_told_by_its_identity(path):
    """Compiled, a tuple of a fixed length is a value, put into a new object each time."""
    tuples = names_of_tuples()
    assert "UNKNOWN_FIELD" in tuples
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Compare):
            for operation, right in zip(node.ops, node.comparators, strict=True):
                if isinstance(operation, ast.Is | ast.IsNot):
                    assert ast.unparse(right).split(".")[-1] not in tuples, f"line {node.lineno}"


@pytest.mark.parametrize("path", compiled_modules(), ids=lambda path: path.stem)
def test_a_dataclass_with_final_fields_has_its_constructor_written_out(path):
    """Compiled, one that is made at run time could not set them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef) and "dataclass" in map(_name, node.decorator_list):
            if "init=False" in ast.unparse(node.decorator_list[0]):
                methods = [one.name for one in node.body if isinstance(one, ast.FunctionDef)]
                assert "__init__" in methods, f"line {node.lineno}"
                continue
            for field in node.body:
                if isinstance(field, ast.AnnAssign):
                    assert "Final" not in ast.unparse(field.annotation), f"line {field.lineno}"


def _name(decorator: ast.expr) -> str:
    return ast.unparse(decorator).split("(")[0].split(".")[-1]
