"""The names of the package: a change here is a change that users see."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import macekit

PUBLIC = {
    "BackendUnavailable", "ConfigError", "DataError", "DatasetFacts", "MacekitError", "ModelConfig",
    "ModelFileError", "NonFiniteError", "ResumeError", "RunStopped", "Structure", "TrainedModel", "TrainingRun",
    "UsageError", "__version__", "build_model", "from_physicsml", "load_model", "load_run", "train",
}  # fmt: skip


def test_names() -> None:
    assert set(macekit.__all__) == PUBLIC
    assert set(dir(macekit)) >= PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_name_resolves_and_is_documented(name: str) -> None:
    value = getattr(macekit, name)
    assert value is getattr(macekit, name)
    assert value.__doc__


def test_typed_imports_and_lazy_homes_agree() -> None:
    tree = ast.parse(Path(macekit.__file__).read_text())
    typed = {
        alias.asname: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    assert typed == macekit._HOMES


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'tarin'; public names: .*train"):
        macekit.tarin  # noqa: B018


def test_star_import() -> None:
    names: dict[str, object] = {}
    exec("from macekit import *", names)
    assert set(names) >= PUBLIC
