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
