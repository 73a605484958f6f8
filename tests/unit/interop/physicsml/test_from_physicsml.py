"""Configuration dictionaries of PhysicsML: every field is mapped, noted, or refused by name."""

from __future__ import annotations

from typing import Any

import pytest

import macekit
from macekit.config.stages import stage_training
from macekit.errors import ConfigError
from macekit.interop.physicsml.fields import (
    COLUMNS,
    DATAMODULE,
    DEFAULTS,
    LOSS_NAMES,
    LOSSES,
    OF_ADAPTERS,
    TRAINING,
)
from macekit.training.losses import Losses

MSE = {"name": "MSELoss", "weight": 2.0}


def description(name: str = "mace_model", *, datamodule: Any = None, **config: Any) -> dict[str, Any]:
    targets = {"y_graph_scalars": ["u0"], "num_elements": 4, **(datamodule or {})}
    values = {"num_node_feats": 4, "datamodule": targets}
    if name != "mean_var_mace_model":
        values["y_graph_scalars_loss_config"] = MSE
    return {"name": name, "config": {**values, **config}}


def test_defaults_are_those_of_physicsml() -> None:
    run, notes = macekit.from_physicsml(description(), train="a.xyz")
    assert (run.model.hidden_irreps, run.model.correlation, run.model.avg_num_neighbours) == (
        "128x0e + 128x1o",
        3,
        None,
    )
    assert (run.model.scaling_mean, run.model.scaling_std) == (0.0, 1.0)
    assert run.model.graph_scalars_loss is not None
    assert run.model.graph_scalars_loss.weight == 2.0
    assert run.data.train == ["a.xyz"]
    assert run.data.targets.kinds() == {"u0": "graph_scalar"}
    assert (run.training.max_epochs, run.training.batch_size, run.training.ema) == (1, 1, None)
    assert run.training.optimizer.config["weight_decay"] == 5e-7
    assert any("self energies are fitted" in note for note in notes)


def test_fields_reach_their_place() -> None:
    run, notes = macekit.from_physicsml(
        description(
            "adapter_mace_model",
            datamodule={
                "cut_off": 4.5,
                "train": {"batch_size": 7, "drop_last": False},
                "y_node_vector": "f",
                "pbc": [True] * 3,
            },
            compute_forces=True,
            y_node_vector_loss_config=MSE,
            ratio_adapter_down=4,
            initial_s=0.05,
            scaling_std=0.5,
            optimizer={"name": "AdamW", "config": {"lr": 0.1}},
            scheduler=None,
            trainer={
                "max_epochs": 9,
                "gradient_clip_val": 3.0,
                "precision": 64,
                "accelerator": "gpu",
                "callbacks": [{"name": "EarlyStopping", "config": {"patience": 4, "monitor": "val_loss"}}],
                "num_nodes": 2,
            },
            x_features=["physicsml_coordinates"],
        )
    )
    assert run.model.name == "adapter_mace_model"
    assert (run.model.ratio_adapter_down, run.model.initial_s, run.model.scaling_std) == (4, 0.05, 0.5)
    assert run.model.compute_forces
    assert run.data.cutoff == 4.5
    assert run.data.reference_energies == "none"
    training = run.training
    assert (training.max_epochs, training.batch_size, training.gradient_clip) == (9, 7, 3.0)
    assert (training.early_stopping, training.monitor, training.scheduler) == (4, "val/total/loss", None)
    assert (training.optimizer.name, run.run.device, run.run.dtype) == ("AdamW", "cuda", "float64")
    text = "\n".join(notes)
    for part in ("datamodule.pbc", "trainer.num_nodes", "train.drop_last", "no batch normalisation", "x_features"):
        assert part in text


def test_featurisation_gives_self_energies_and_features() -> None:
    run, notes = macekit.from_physicsml(
        description(num_node_feats=14, datamodule={"num_elements": 2}),
        featurisation={
            "atomic_number_mapping": {"1": 0, "8": 1},
            "atomic_energies": {"1": {"0": -0.5, "1": 0.0}, "8": -75.0},
            "atom_features": ["formal_charge"],
        },
    )
    assert run.data.reference_energies == {"H": -0.5, "O": -75.0}
    assert list(run.data.node_features) == ["formal_charge"]
    assert any("self energies of H depend on the formal charge" in note for note in notes)


def test_what_is_done_otherwise_is_noted() -> None:
    everything = {"y_graph_scalars": ["a", "b"], "y_graph_vector": "d", "y_node_scalars": ["q"]}
    losses = dict.fromkeys(("y_graph_vector_loss_config", "y_node_vector_loss_config"), MSE)
    run, notes = macekit.from_physicsml(
        description("mean_var_mace_model", datamodule=everything, compute_forces=True, num_edge_feats=3, **losses)
    )
    assert run.model.uncertainty == "gaussian"
    assert run.data.edge_features == "bond_features"
    text = "\n".join(notes)
    for part in (
        "y_node_vector_loss_config: left out",
        "compute_forces: left out",
        "belong to the first graph scalar alone",
        "vectors are read from every layer",
        "no floor of 0.01",
        "vanish at the cutoff",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": 1}, "the field 'colour' has no counterpart"),
        ({"ratio_adapter_down": 2}, "the field 'ratio_adapter_down' has no counterpart"),
        ({"transfer_learning": {"stages": []}}, "transfer_learning: pre_trained_model_path is required"),
        ({"transfer_learning": {"repo_url": "x"}}, "transfer_learning.repo_url: models are not fetched"),
        (
            {"transfer_learning": {"stage": []}},
            "(?s)transfer_learning: the field 'stage' has no.*did you mean 'stages'",
        ),
        (
            {"transfer_learning": {"pre_trained_model_path": "m", "stages": [{"freeze": []}]}},
            "stages.0: the field 'freeze'",
        ),
        (
            {"transfer_learning": {"pre_trained_model_path": "m", "stages": [{"trainer": {"max_steps": 3}}]}},
            "max_steps",
        ),
        ({"compile": True}, "compile: compiled models"),
        ({"datamodule": {"self_interaction": True}}, "datamodule.self_interaction: edges from atoms"),
        ({"datamodule": {"train": {"batch_size": {"a": 1}}}}, "per source has no counterpart"),
        ({"trainer": {"max_steps": 5}}, "trainer.max_steps: 5 has no counterpart"),
        ({"trainer": {"precision": "16-mixed"}}, "trainer.precision: 16-mixed has no counterpart"),
        ({"trainer": {"accelerator": "tpu"}}, "trainer.accelerator: tpu has no counterpart"),
        ({"trainer": {"accumulate_grad_batches": 4}}, "trainer.accumulate_grad_batches: 4 has no counterpart"),
        ({"optimizer": {"nam": "Adam"}}, "optimizer: the field 'nam' has no counterpart"),
        ({"scheduler": {"frequency": 2}}, "scheduler.frequency: 2 has no counterpart"),
        ({"correlation": 9}, "correlation"),
    ],
)
def test_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        macekit.from_physicsml(description(**changes))


def test_stages_change_only_what_they_give() -> None:
    """The documented behaviour; PhysicsML itself replaces nested mappings whole."""
    stages = [
        {
            "freeze_modules": ["mace"],
            "datamodule": {"train": {"batch_size": 128}},
            "optimizer": {"config": {"lr": 1e-2}},
        },
        {
            "trainer": {"max_epochs": 4, "gradient_clip_val": 2.0},
            "scheduler": {"name": "ExponentialLR", "config": {"gamma": 0.9}},
        },
    ]
    transfer = {"pre_trained_model_path": "old", "modules_to_match": {"mace": "mace"}, "stages": stages}
    run, notes = macekit.from_physicsml(
        description(
            transfer_learning=transfer,
            optimizer={"name": "AdamW", "config": {"lr": 1e-3, "amsgrad": True}},
            trainer={"max_epochs": 10},
        )
    )
    finetune = run.finetune
    assert finetune is not None
    assert finetune.pre_trained_model_path == "old"
    assert finetune.modules_to_match == {"mace": "mace"}
    first, second = (stage_training(run.training, stage, "test") for stage in finetune.stages)
    assert finetune.stages[0].freeze_modules == ["mace"]
    assert (first.batch_size, first.max_epochs) == (128, 10)
    assert first.optimizer.name == "AdamW"
    assert first.optimizer.config == {"lr": 1e-2, "amsgrad": True}
    assert first.scheduler == run.training.scheduler
    assert (second.batch_size, second.max_epochs, second.gradient_clip) == (run.training.batch_size, 4, 2.0)
    assert second.optimizer == run.training.optimizer
    assert second.scheduler is not None
    assert (second.scheduler.name, second.scheduler.config) == ("ExponentialLR", {"gamma": 0.9})
    assert any("{module of the new model: module of the trained model}" in note for note in notes)


def test_models_and_shapes_refused() -> None:
    with pytest.raises(ConfigError, match=r"the model 'ani_model' is not read"):
        macekit.from_physicsml(description("ani_model"))
    with pytest.raises(ConfigError, match=r"expected a name and a config, got conf"):
        macekit.from_physicsml({"name": "mace_model", "conf": {}})
    with pytest.raises(ConfigError, match=r"no target"):
        macekit.from_physicsml(description(datamodule={"y_graph_scalars": None}))


def test_every_field_of_physicsml_0_6_is_known() -> None:
    """The fields of its dataclasses, as `dataclasses.fields` lists them."""
    model = (
        "x_features y_features train_features datamodule trainer optimizer scheduler transfer_learning compile "
        "float32_matmul_precision compute_forces num_node_feats num_edge_feats num_bessel num_polynomial_cutoff "
        "max_ell num_interactions hidden_irreps mlp_irreps avg_num_neighbours correlation scaling_mean scaling_std "
        "y_node_scalars_loss_config y_graph_scalars_loss_config y_node_vector_loss_config y_graph_vector_loss_config "
        "ratio_adapter_down initial_s"
    )
    assert set(model.split()) == {*DEFAULTS, *LOSSES, *TRAINING, "datamodule"}
    assert set(OF_ADAPTERS) <= set(DEFAULTS)
    assert set(COLUMNS) <= set(DATAMODULE)


def test_imported_models_are_not_trained() -> None:
    values = {
        "model": {"compatibility": "physicsml", "y_graph_scalars_loss_config": {"name": "MSELoss"}},
        "data": {"train": "a.xyz"},
    }
    with pytest.raises(ConfigError, match="is for imported models, which cannot be trained"):
        macekit.TrainingRun.from_dict(values, "run.yaml")


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_losses_of_the_same_name_exist(name: str) -> None:
    loss: dict[str, Any] = {"name": name, "weight": 3.0}
    if name == "MultiTaskLoss":
        loss["config"] = {"losses_configs": [{"name": "L1Loss", "weight": 0.5}]}
    run, notes = macekit.from_physicsml(description(y_graph_scalars_loss_config=loss), train="a.xyz")
    (term,) = (term for terms in Losses(run.model, run.data.targets).terms.values() for term in terms)
    assert term.weight == (0.5 if name == "MultiTaskLoss" else 3.0)
    assert ("the weight of MultiTaskLoss is left out" in "".join(notes)) == (name == "MultiTaskLoss")


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ({"name": "CTCLoss"}, "y_graph_scalars_loss_config: the loss 'CTCLoss' has no counterpart; there are MSELoss"),
        ({"name": "MSEloss"}, "did you mean 'MSELoss'"),
        ({"name": "MultiTaskLoss", "config": {"losses_configs": [{"name": "NLLLoss"}]}}, "the loss 'NLLLoss' has no"),
        ("MSELoss", "y_graph_scalars_loss_config: expected a mapping with a name, got 'MSELoss'"),
    ],
)
def test_losses_without_a_counterpart(loss: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        macekit.from_physicsml(description(y_graph_scalars_loss_config=loss), train="a.xyz")
    assert message in str(caught.value)
