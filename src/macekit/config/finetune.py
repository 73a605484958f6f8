"""The finetune section: where weights start, which of them are trained, and in which stages."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from macekit.config.base import Config
from macekit.config.data import PositiveFloat

TunerChoice = Literal["ssf", "adapter", "lora", "heads", "full"]
ReferenceChoice = Literal["keep", "refit", "data"]


class StageConfig(Config):
    """One stage of training: what is frozen, and what differs from the sections of the run.

    Only the fields that are given change; all others are those of the run.
    """

    freeze_modules: list[str] = Field(default_factory=list)
    """Modules that are not trained in this stage, besides those that the tuner leaves out: `mace` (or `backbone`) for
    all message passing; `mace.node_embedding`, `mace.interactions`, `mace.messages`, `mace.node_updates`, each also
    of one layer as in `mace.interactions.0`; `graph_scalars_head`, `graph_vector_head`, `node_scalars_head`,
    `node_vector_head`; or the beginning of the name of any parameter."""
    trainer: dict[str, Any] = Field(default_factory=dict)
    """Fields of `training`, such as `max_epochs`, for this stage."""
    datamodule: dict[str, Any] = Field(default_factory=dict)
    """How this stage is batched: `batch_size` or `batch_edges`."""
    optimizer: dict[str, Any] = Field(default_factory=dict)
    """Fields of `training.optimizer` for this stage, such as {config: {lr: 0.0001}}."""
    scheduler: dict[str, Any] = Field(default_factory=dict)
    """Fields of `training.scheduler` for this stage; `trainer: {scheduler: null}` for a constant rate."""
    losses: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Fields of the losses of the model section for this stage, by output, such as {y_node_vector: {weight: 1.0}}."""

    @model_validator(mode="before")
    @classmethod
    def _null_is_nothing(cls, values: Any) -> Any:
        """Null leaves a field as it is; `datamodule: {train: {batch_size: 8}}` is the documented nesting."""
        if not isinstance(values, dict):
            return values
        given = {key: value for key, value in values.items() if value is not None}
        batches = given.get("datamodule")
        if isinstance(batches, dict) and isinstance(batches.get("train"), dict):
            rest = {key: value for key, value in batches.items() if key != "train"}
            given["datamodule"] = {**rest, **batches["train"]}
        return given


class ReplayConfig(Config):
    """Structures on which a head of the new model goes on to predict what the trained model did."""

    files: list[str]
    """Files of structures, as in `data.train`; a few hundred that resemble what must not be forgotten."""
    labels: Literal["model", "file"] = "model"
    """Where their labels come from: predictions of the trained model, or the files, which then hold the data that it
    was trained on."""
    head: str = "trained"
    """Name of their level of theory, with read-outs, reference energies and scales of its own, all of which start as
    those of the trained model. Other structures that name no head are of the level `default`."""
    weight: PositiveFloat = 1.0
    """Factor of the loss of every replayed structure."""
    count: PositiveInt | None = None
    """At most so many structures, evenly spread over the files; null: all."""

    @field_validator("files", mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


class FinetuneConfig(Config):
    """Start from a trained model instead of random weights."""

    synonyms: ClassVar[dict[str, str]] = {"from": "pre_trained_model_path"}

    pre_trained_model_path: str
    """The trained model, `from` for short: a model directory of macekit (or the directory of its run), a `.model` file
    of mace-torch, or a model directory of PhysicsML; nothing in them is executed. Relative to the folder of the run
    file. Its architecture, cutoff and scales are taken over; leave them out of the model section."""
    head: str | None = None
    """Level of theory to start from, where the trained model has several and none is the default."""
    energy_unit: str | None = None
    """PhysicsML only: unit of its energies, which are then converted to eV; null: numbers are kept."""
    tuner: TunerChoice | None = None
    """What is trained: `heads` the read-outs alone; `ssf`, `adapter` and `lora` the read-outs and small additions to
    the layers, which start as exact identities; `full` everything. Null: everything, with the tuner of the model
    section."""
    reference_energies: ReferenceChoice | None = None
    """E0 where the head of the energy is taken over, to be chosen: `keep` those of the trained model; `refit` them so
    that its errors on the training energies are smallest (data of another level of theory); `data` as
    `data.reference_energies` says."""
    elements: Literal["data", "all"] | list[str] = "data"
    """Elements of the new model: those of the data; all that the trained model knows, and those of the data; or these,
    by symbol. A new element starts with the weights of its nearest known relative."""
    modules_to_match: dict[str, str] | None = None
    """Which modules are taken over, {module of the new model: module of the trained model}, by the names of
    `freeze_modules`; null: all message passing, and the heads of targets that both have, column by column."""
    replay: ReplayConfig | None = None
    """Multi-head replay against forgetting: further structures with a head of their own that stays where it was."""
    stages: list[StageConfig] = Field(default_factory=list)
    """Stages of training, one after the other, each with a fresh optimiser; none: one as the training section says."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        for short, name in cls.synonyms.items():
            if short in values and name in values:
                raise ValueError(f"'{short}' and '{name}' are the same field; give one of them")
        return {cls.synonyms.get(key, key): value for key, value in values.items() if value is not None}
