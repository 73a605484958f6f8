"""The shape of the package: layers, sizes, names, what is never used, and the public API."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

import macekit
from macekit.config import yaml_text
from macekit.config.base import Config
from macekit.config.model import VARIANTS

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src" / "macekit"
API_SNAPSHOT = Path(__file__).parent / "snapshots" / "public_api.txt"
LAYERS = (
    "errors", "units", "config", "o3", "kernels", "data", "geometry", "model", "outputs", "interop", "training",
    "interfaces", "cli",
)  # fmt: skip
"""Imports go left only."""
ENTRY_POINTS = {"__init__.py", "__main__.py"}
"""Files of the package itself, above all layers."""
LARGEST_FILE, LONGEST_FUNCTION = 300, 60
FORBIDDEN_NAMES = re.compile(r"(^|_)(util|utils|helper|helpers|common|misc|tool|tools|stuff)(_|$)")
UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {
    "torch.load", "torch.save", "torch.jit.load", "torch.package.PackageImporter",
    "dist.all_gather_object", "dist.gather_object", "dist.broadcast_object_list", "dist.scatter_object_list",
    "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "pd.read_pickle", "pandas.read_pickle",
}  # fmt: skip
UNSAFE_BUILTINS = {"eval", "exec", "compile", "__import__"}

SOURCES = sorted(SRC.rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(SRC).as_posix()


each_source = pytest.mark.parametrize("path", SOURCES, ids=name_of)


def layer_of(path: Path) -> str | None:
    """The layer a file belongs to; None for the entry points and for folders that hold nothing but data."""
    first = path.relative_to(SRC).parts[0].removesuffix(".py")
    return None if first in {"__init__", "__main__", "demo"} else first


def imported_layers(text: str, package: tuple[str, ...]) -> set[str]:
    """Layers that a file imports anywhere: at its top, in functions, for type checking, or as `macekit.name`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        names: list[list[str]] = []
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            base += node.module.split(".") if node.module else []
            names = [[*base, alias.name] for alias in node.names]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "macekit":
            names = [["macekit", node.attr]]
        for name in names:
            if name[0] == "macekit" and len(name) > 1:
                home = macekit._HOMES.get(name[1], f"macekit.{name[1]}")
                found.add(home.split(".")[1])
    return found & set(LAYERS)


def dotted(node: ast.AST) -> str:
    """`a.b.c` of an expression, empty where it is anything else."""
    if isinstance(node, ast.Name):
        return node.id
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else ""


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield dotted(node.func), node


@each_source
def test_imports_go_left(path: Path) -> None:
    layer = layer_of(path)
    if layer is None:
        return
    assert layer in LAYERS, f"{name_of(path)} is in no layer; known: {', '.join(LAYERS)}"
    package = ("macekit", *path.relative_to(SRC).parts[:-1])
    allowed = set(LAYERS[: LAYERS.index(layer) + 1])
    assert imported_layers(path.read_text(), package) <= allowed, f"{name_of(path)} imports from its right"


@pytest.mark.parametrize(
    "text",
    [
        "import macekit.cli",
        "from macekit.cli import app",
        "from macekit import cli",
        "from .. import cli",
        "from ..cli.app import main",
        "def f():\n    from macekit.cli import app",
        "if TYPE_CHECKING:\n    from macekit.cli import app",
    ],
)
def test_every_kind_of_import_is_seen(text: str) -> None:
    assert imported_layers(text, ("macekit", "model")) == {"cli"}


def test_public_names_count_as_where_they_live() -> None:
    assert imported_layers("import macekit\nmacekit.train()", ("macekit", "model")) == {"interfaces"}
    assert imported_layers("from macekit import load_model", ("macekit", "model")) == {"interfaces"}
    assert imported_layers("import macekit\nmacekit.__version__", ("macekit", "model")) == set()


@each_source
def test_files_are_short(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= LARGEST_FILE, f"{name_of(path)} has {lines} lines: it is two ideas"


@each_source
def test_functions_are_short(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{name_of(path)}: {node.name} has {length} lines: it is two ideas"


@each_source
def test_names_say_something(path: Path) -> None:
    for part in path.relative_to(SRC).parts:
        assert not FORBIDDEN_NAMES.search(part.removesuffix(".py")), f"{name_of(path)}: what is in it?"


@each_source
def test_derivatives_are_taken_in_one_place(path: Path) -> None:
    if layer_of(path) == "outputs":
        return
    text = path.read_text()
    assert not [name for name, _ in calls(path) if name.endswith("autograd.grad")], name_of(path)
    assert not re.search(r"from torch\.autograd import .*\bgrad\b|torch\.func", text), name_of(path)


@each_source
def test_nothing_can_run_code_from_a_file(path: Path) -> None:
    for node in ast.walk(tree(path)):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not UNSAFE_MODULES & {module.split(".")[0] for module in modules}, name_of(path)
    for name, call in calls(path):
        assert name not in UNSAFE_CALLS | UNSAFE_BUILTINS, f"{name_of(path)}:{call.lineno}: {name}"
        keywords = {keyword.arg: keyword.value for keyword in call.keywords}
        pickled = keywords.get("allow_pickle", ast.Constant(False))
        assert isinstance(pickled, ast.Constant) and pickled.value is False, f"{name_of(path)}:{call.lineno}: {name}"
        if name == "yaml.load":
            assert dotted(keywords["Loader"]) == "_Loader" and name_of(path) == "config/yaml_text.py"


def test_the_yaml_loader_is_a_safe_one() -> None:
    assert issubclass(yaml_text._Loader, yaml.SafeLoader)


@each_source
def test_variants_are_known_in_one_place(path: Path) -> None:
    if name_of(path) == "config/model.py":
        return
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Constant):
            assert node.value not in VARIANTS, f"{name_of(path)}:{node.lineno}: {node.value}"


def test_import_is_light() -> None:
    code = "import sys, macekit; print(*{name.partition('.')[0] for name in sys.modules})"
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not set(result.stdout.split()) & {"torch", "ase", "numpy", "pydantic", "matplotlib"}


def test_no_machine_is_named() -> None:
    slash = "/"
    folders = "|".join(["home", "Users", "root", "opt", "work"])
    machine = re.compile(rf"(?<![\w.{slash}-]){slash}(?:{folders}){slash}\w")
    for path in project_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        assert not (found := machine.search(text)), f"{path.relative_to(ROOT)}: {found.group() if found else ''}"


def project_files() -> list[Path]:
    """Files under version control or about to be; without git, those of the folders that are."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True, text=True,
        ).stdout.split("\0")  # fmt: skip
        found = [ROOT / name for name in listed if name]
    except (OSError, subprocess.CalledProcessError):
        folders = ("src", "tests", "docs", "examples", "benchmarks")
        found = [path for folder in folders for path in (ROOT / folder).rglob("*") if "__pycache__" not in path.parts]
    return [path for path in found if path.is_file()]


def test_public_api_is_as_agreed() -> None:
    found = "\n".join(line for name in sorted(macekit.__all__) for line in described(name)) + "\n"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        API_SNAPSHOT.write_text(found, encoding="utf-8")
    assert found == API_SNAPSHOT.read_text(encoding="utf-8"), (
        "the public API changed; if that is meant: UPDATE_SNAPSHOTS=1 pytest tests/test_architecture.py, CHANGELOG"
    )


def described(name: str) -> list[str]:
    """The lines of the snapshot for one public name."""
    value = getattr(macekit, name)
    if inspect.isfunction(value):
        return [f"{name}{signature(value)}"]
    if not inspect.isclass(value):
        return [name]
    bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
    lines = [f"class {name}({bases})" if bases else f"class {name}"]
    if issubclass(value, Config):
        return lines + [f"    {field}" for field in value.model_fields]
    if issubclass(value, Exception):
        return [*lines, f"    exit_code = {value.exit_code}"]  # type: ignore[attr-defined]
    for member, item in sorted(vars(value).items()):
        if member.startswith("_") and member != "__init__":
            continue
        function = item.__func__ if isinstance(item, classmethod | staticmethod) else item
        if inspect.isfunction(function):
            lines.append(f"    {member}{signature(function)}")
        else:
            lines.append(f"    {member}")
    return lines


def signature(function: Any) -> str:
    """A signature with the annotations as they are written."""
    return str(inspect.signature(function)).replace("'", "")
