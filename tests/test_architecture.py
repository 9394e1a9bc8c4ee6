"""The architecture as tests: what import-linter cannot say."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for package in ("kgtool", "detector") for path in (ROOT / package).rglob("*.py"))
LINE_CEILING = 400
VAGUE_NAMES = {"utils", "util", "common", "helpers", "helper", "misc", "core", "base", "tools"}
SLOW_PACKAGES = ("torch", "torchvision", "pandas", "pyarrow", "ibis", "duckdb", "networkx", "scipy", "nltk")


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_modules_are_short_and_named_for_what_is_inside(path: Path) -> None:
    assert not VAGUE_NAMES & set(path.relative_to(ROOT).with_suffix("").parts)
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LINE_CEILING, f"{module_name(path)} has {lines} lines: split it where a natural seam is"


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_every_module_says_what_it_holds(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("command", ["kgtool", "detector"])
def test_help_does_not_import_slow_packages(command: str) -> None:
    """`--help` is fast because of what it leaves alone; a timed test would only measure the machine."""
    program = (
        "import sys\n"
        f"from {command}.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print([name for name in {SLOW_PACKAGES!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_only_the_wall_and_its_tests_touch_kgtool_from_detector() -> None:
    touching = {
        module_name(path)
        for path in (ROOT / "detector").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "kgtool")
        or (isinstance(node, ast.Import) and any(name.name.split(".")[0] == "kgtool" for name in node.names))
    }
    assert touching == {"detector.knowledge"}


def test_no_source_unpickles() -> None:
    """Only safetensors, NPZ without objects, Parquet and JSON are opened; `torch.load` takes weights only."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert all(name.name not in ("pickle", "dill", "joblib") for name in node.names), path
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            options = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
            where = ast.unparse(node.func)
            if where == "torch.load":
                assert options.get("weights_only") is True, path
            if where in ("np.load", "numpy.load"):
                assert options.get("allow_pickle", False) is False, path
