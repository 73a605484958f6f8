"""The README: its quickstart runs, its run file is one, its links and its table of models are right."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from macekit.config import ModelConfig, TrainingRun
from macekit.config.model import VARIANTS
from macekit.config.yaml_text import parse_yaml

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_quickstart_runs(tmp_path: Path) -> None:
    (code,) = blocks("python")
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    shapes, energy = result.stdout.splitlines()[-2:]
    assert shapes == "(10,) (10, 3) (10,)"
    assert re.fullmatch(r"-\d+\.\d+ \(10, 3\)", energy)
    assert (tmp_path / "quickstart" / "model" / "model.safetensors").is_file()


def test_quickstart_is_short() -> None:
    (code,) = blocks("python")
    assert len([line for line in code.splitlines() if line and "import" not in line]) <= 10


def test_run_file() -> None:
    (text,) = blocks("yaml")
    TrainingRun.from_dict(parse_yaml(text, "README.md"), "README.md")


def test_table_of_models() -> None:
    rows = dict(re.findall(r"^\| `(\w+_model)` \| (\w+ \| \w+) \|", README, re.MULTILINE))
    configs = {name: ModelConfig.from_dict({"name": name}) for name in VARIANTS}
    assert rows == {name: f"{config.tuner} | {config.uncertainty}" for name, config in configs.items()}


def test_links() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]


def test_make_targets() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"\bmake ([a-z][\w-]*)", "\n".join([README, makefile])))
    phony = set(re.findall(r"^\.PHONY: ([a-z].*)$", makefile, re.MULTILINE)[0].split())
    assert targets <= phony
