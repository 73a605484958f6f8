"""The documentation says what is true: its run files, code, commands, tests and links exist."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import macekit
from macekit.cli import app
from macekit.config import TrainingRun
from macekit.config.base import nested_config
from macekit.config.yaml_text import parse_yaml

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def blocks(page: Path, *languages: str) -> list[str]:
    kinds = "|".join(languages)
    return re.findall(rf"^```(?:{kinds})\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@each_page
def test_run_files_are_valid(page: Path) -> None:
    for text in blocks(page, "yaml"):
        included = re.fullmatch(r'--8<-- "(.+)"\n', text)
        where = page.name
        values = parse_yaml((ROOT / included[1]).read_text(encoding="utf-8") if included else text, where)
        TrainingRun.from_dict(values, where)


@each_page
def test_python_uses_what_exists(page: Path) -> None:
    for text in blocks(page, "python"):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                owner = {"macekit": macekit, "model": macekit.TrainedModel}.get(node.value.id)
                if owner is macekit.TrainedModel and "build_model" in text:
                    continue
                assert owner is None or hasattr(owner, node.attr), f"{node.value.id}.{node.attr}"


def test_the_model_page_builds_its_model() -> None:
    (text,) = blocks(DOCS / "concepts" / "model.md", "python")
    names: dict[str, object] = {}
    exec(text, names)
    assert type(names["model"]).__name__ == "Mace"


@each_page
def test_commands_exist(page: Path) -> None:
    verbs = {command.callback.__name__: command.callback for command in app.registered_commands if command.callback}
    reference = (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")
    for text in blocks(page, "bash"):
        for line in re.sub(r"\\\n", " ", text).splitlines():
            command = re.search(r"\bmacekit ([a-z]+)(.*)", line.partition("#")[0])
            if command is None or line.startswith("#SBATCH") or "pip install" in line:
                continue
            assert command[1] in verbs, line
            section = reference.partition(f"## macekit {command[1]}\n")[2].partition("\n## ")[0]
            for flag in re.findall(r"(?<!\S)--?[a-z][\w-]*", command[2]):
                assert f"`{flag}`" in section, f"{command[1]} has no {flag}"
            if command[1] == "train":
                assignments = re.findall(r"(?<!\S)([a-z_.]+)=", command[2])
                assert all(known(key.split(".")) for key in assignments), assignments


def known(steps: list[str]) -> bool:
    """Whether a dotted key starts at a section and a field of run files."""
    if len(steps) == 1:
        return steps[0] == "preset"
    section = TrainingRun.model_fields.get(steps[0])
    kind = nested_config(section.annotation) if section else None
    return kind is not None and (steps[1] in kind.model_fields or steps[1] in kind.synonyms)


@each_page
def test_tests_that_are_named_exist(page: Path) -> None:
    for name, test in re.findall(r"`(tests/[\w/.]+)(?:::(\w+))?`", page.read_text(encoding="utf-8")):
        path = ROOT / name
        assert path.exists(), name
        assert not test or f"def {test}(" in path.read_text(encoding="utf-8"), f"{name}::{test}"


@each_page
def test_source_files_that_are_named_exist(page: Path) -> None:
    layers = "cli|config|data|geometry|interfaces|interop|kernels|model|o3|outputs|training"
    for name in re.findall(rf"`((?:{layers})/[\w/]+\.py)`", page.read_text(encoding="utf-8")):
        assert (ROOT / "src" / "macekit" / name).is_file(), name


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in link and not link.startswith("#"):
            assert (page.parent / link.partition("#")[0]).exists(), link


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r"[\w/-]+\.md", text.partition("\nnav:\n")[2]))
    assert listed == {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}


def test_generated_pages_are_up_to_date() -> None:
    result = subprocess.run(
        [sys.executable, str(DOCS / "generate.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


@each_page
def test_nothing_is_called_simple(page: Path) -> None:
    assert not re.search(r"\b(simply|just|obviously|easily)\b", page.read_text(encoding="utf-8"))
