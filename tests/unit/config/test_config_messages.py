"""Messages of bad configurations: the key, the value, what was expected, and a hint."""

from __future__ import annotations

from typing import Any

import pytest

from macekit.config.base import Config, nested_config
from macekit.config.data import SourceConfig
from macekit.config.model import ModelConfig
from macekit.config.run import TrainingRun
from macekit.config.training import OptimizerConfig
from macekit.errors import ConfigError

LOSS = {"name": "MSELoss"}


def message_of(**sections: dict[str, Any]) -> str:
    values: dict[str, Any] = {"model": {"y_graph_scalars_loss_config": LOSS}, "data": {"train": "a.xyz"}}
    for section, changes in sections.items():
        values[section] = {**values.get(section, {}), **changes}
    with pytest.raises(ConfigError) as caught:
        TrainingRun.from_dict(values, "run.yaml")
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({"model": {"max_el": 3}}, "run.yaml: model.max_el: unknown key\nhint: did you mean 'max_ell'?"),
        (
            {"model": {"optimizer": {}}},
            "run.yaml: model.optimizer: unknown key\nhint: 'optimizer' belongs to training",
        ),
        (
            {"data": {"train": [{"file": "a", "wieght": 3}]}},
            "data.train.0.wieght: unknown key (SourceConfig has: file, weight, head)\nhint: did you mean 'weight'?",
        ),
        (
            {"data": {"train": 5}},
            "run.yaml: data.train.0: expected a text or a mapping (SourceConfig), got 5",
        ),
        (
            {"data": {"validation": 2}},
            "run.yaml: data.validation: expected a value less than 1 or a list, got 2",
        ),
        ({"model": {"max_ell": "x"}}, "run.yaml: model.max_ell: expected a whole number, got 'x'"),
        (
            {"model": {"avg_num_neighbours": "atuo"}},
            "model.avg_num_neighbours: expected a number or 'auto', got 'atuo'\nhint: did you mean 'auto'?",
        ),
        (
            {"training": {"optimizer": "Adam"}},
            "training.optimizer: expected a mapping (OptimizerConfig), got 'Adam'",
        ),
        (
            {"model": {"y_graph_scalars_loss_config": {}}},
            "y_graph_scalars_loss_config.name: required and not given",
        ),
        (
            {"model": {"y_graph_scalars_loss_config": None}},
            "run.yaml: nothing to train: every loss is missing",
        ),
        ({"model": {"compute_forces": True}}, "add y_node_vector: forces"),
        ({"run": {"dtype": "float16"}}, "run.dtype: expected 'float32', 'float64' or 'mixed', got 'float16'"),
        (
            {"training": {"ema": 3}, "run": {"seed": "x"}},
            "less than 1, got 3; run.seed: expected a whole number",
        ),
    ],
)
def test_message(sections: dict[str, Any], expected: str) -> None:
    assert expected in message_of(**sections)


def test_unknown_keys_come_first() -> None:
    message = message_of(model={"y_graph_scalars_loss_config": {"nmae": "MSELoss"}})
    assert message.startswith("run.yaml: model.y_graph_scalars_loss_config.nmae: unknown key")
    assert message.endswith("hint: did you mean 'name'?")


def test_without_a_place_the_message_starts_with_the_key() -> None:
    with pytest.raises(ConfigError, match=r"^max_ell: expected a value less than or equal to 6, got 7$"):
        ModelConfig.from_dict({"max_ell": 7})


def test_not_a_mapping() -> None:
    with pytest.raises(ConfigError, match=r"ModelConfig: expected a mapping of fields, got \[1\]"):
        ModelConfig.from_dict([1])  # type: ignore[arg-type]


def test_configurations_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        ModelConfig().max_ell = 2  # type: ignore[misc]


def test_nested_config() -> None:
    assert nested_config(list[str | SourceConfig]) is SourceConfig
    assert nested_config(OptimizerConfig | None) is OptimizerConfig
    assert nested_config(dict[str, float]) is None


def test_every_field_is_described() -> None:
    def check(kind: type[Config]) -> None:
        descriptions = kind.descriptions()
        for name, field in kind.model_fields.items():
            assert descriptions.get(name), f"{kind.__name__}.{name} has no docstring"
            if (inner := nested_config(field.annotation)) is not None:
                check(inner)

    check(TrainingRun)
