"""A trained model for use from Python: loading, predicting, handing out ASE calculators, saving."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import torch

from macekit.data.structure import Structure
from macekit.errors import ModelFileError, UsageError
from macekit.interfaces.structures import as_structures
from macekit.interop.native import load_native, read_config, save_native
from macekit.interop.physicsml.directory import is_physicsml
from macekit.model.merging import merged
from macekit.model.selection import at_head
from macekit.outputs.compiled import CompiledModel, Evaluator
from macekit.outputs.predictions import STD, Predictions, predict
from macekit.training.distributed import choose_device

if TYPE_CHECKING:
    from ase import Atoms

    from macekit.config.facts import DatasetFacts
    from macekit.config.model import ModelConfig
    from macekit.interfaces.ase import MaceCalculator
    from macekit.model.mace import Mace

Precision: TypeAlias = Literal["float32", "float64"]

_PRECISIONS = {"float32": torch.float32, "float64": torch.float64}
_PICKLES = {".model", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin"}


class TrainedModel:
    """A model with the facts it was trained for.

    Results are addressed by the names of the targets, in eV, Å, e and their combinations; forces are −dE/dx
    and stresses (1/V) dE/dε with tension positive.

    Args:
        module: The network; it is put into evaluation mode.
        provenance: Where it comes from, kept when it is saved.
    """

    def __init__(self, module: Mace, provenance: Mapping[str, Any] | None = None) -> None:
        self.module = module.eval()
        self.provenance = dict(provenance or {})
        self._evaluator = Evaluator(self.module)

    def __repr__(self) -> str:
        """Name, elements, cutoff and targets."""
        return (
            f"TrainedModel({self.config.name}, elements={' '.join(self.elements)}, cutoff={self.cutoff:g} Å, "
            f"targets={', '.join(self.targets)})"
        )

    @property
    def config(self) -> ModelConfig:
        """The choices the model was built from."""
        return self.module.config

    @property
    def facts(self) -> DatasetFacts:
        """The facts about its training data."""
        return self.module.facts

    @property
    def elements(self) -> tuple[str, ...]:
        """Symbols of the elements the model knows, by ascending atomic number."""
        from ase.data import chemical_symbols

        return tuple(chemical_symbols[number] for number in self.facts.elements)

    @property
    def cutoff(self) -> float:
        """Distance within which atoms see each other, Å."""
        return self.facts.cutoff

    @property
    def targets(self) -> dict[str, str]:
        """Kind of every target: graph_scalar, graph_vector, node_scalar, node_vector or stress."""
        return self.facts.targets.kinds()

    @property
    def heads(self) -> tuple[str, ...]:
        """Levels of theory by name; empty where there is a single one without a name."""
        return tuple(self.facts.heads)

    def at_head(self, head: str) -> TrainedModel:
        """The model with one of its levels of theory alone.

        Raises:
            DataError: If there is no such head.
        """
        return TrainedModel(at_head(self.module, head), self.provenance | {"head": head})

    def predict(
        self, structures: Atoms | Structure | Sequence[Atoms | Structure], *, head: str | None = None
    ) -> Predictions:
        """Every target of every structure.

        Args:
            structures: ASE atoms or macekit structures, G of them; a single one counts as a list of one.
            head: Level of theory; None: that of each macekit structure, otherwise the model's default.

        Returns:
            By target name, float64: graph scalars [G], graph vectors [G, 3],
            stress [G, 3, 3] (NaN without periodicity); node scalars and vectors as lists of [N] and [N, 3].
            Empty for no structures.

        Raises:
            DataError: If a structure cannot be used, or holds an element the model does not know; if there is no
                such head, or none is named where the model has several and no default.
        """
        found = predict(self.module, self._structures(structures, head), evaluator=self._evaluator)
        return {name: values for name, values in found.items() if not name.endswith(STD)}

    def predict_with_std(
        self, structures: Atoms | Structure | Sequence[Atoms | Structure], *, head: str | None = None
    ) -> tuple[Predictions, Predictions]:
        """Predictions, and the standard deviation of every graph scalar.

        Returns:
            What `predict` returns, and by target name the standard deviations, [G].

        Raises:
            UsageError: If the model has no variance.
            DataError: As in `predict`.
        """
        if self.config.uncertainty != "gaussian":
            raise UsageError(
                f"this model ({self.config.name}) has no standard deviations; a mean_var_mace_model has them",
                "train with model.name=mean_var_mace_model, or use predict",
            )
        found = predict(self.module, self._structures(structures, head), evaluator=self._evaluator)
        mean = {name: values for name, values in found.items() if not name.endswith(STD)}
        return mean, {name.removesuffix(STD): values for name, values in found.items() if name.endswith(STD)}

    def predict_with_prediction_interval(
        self,
        structures: Atoms | Structure | Sequence[Atoms | Structure],
        confidence: float = 0.9,
        *,
        head: str | None = None,
    ) -> tuple[Predictions, Predictions]:
        """Predictions, and the interval of a normal distribution that holds the given share of it.

        Args:
            structures: As in `predict`.
            confidence: Between 0 and 1.
            head: As in `predict`.

        Returns:
            What `predict` returns, and by target name the lower and upper ends, [G, 2].

        Raises:
            UsageError: If the model has no variance, or the confidence is not between 0 and 1.
        """
        if not 0.0 < confidence < 1.0:
            raise UsageError(f"confidence: expected a number between 0 and 1, got {confidence!r}")
        mean, std = self.predict_with_std(structures, head=head)
        width = NormalDist().inv_cdf(0.5 + confidence / 2)
        intervals: Predictions = {}
        for name, deviation in std.items():
            half = width * np.nan_to_num(np.asarray(deviation), nan=0.0)
            centre = np.asarray(mean[name])
            intervals[name] = np.stack([centre - half, centre + half], axis=-1)
        return mean, intervals

    def ase_calculator(
        self,
        device: str | None = "auto",
        dtype: Precision | None = None,
        skin: float = 0.5,
        *,
        head: str | None = None,
    ) -> MaceCalculator:
        """An ASE calculator with a copy of the model.

        Args:
            device: auto, cpu, cuda or cuda:N; None: where the model is.
            dtype: Precision of the network; None: as it is. "float64" serves tight optimisation, vibrations.
            skin: Å beyond the cutoff within which neighbours are remembered from one call to the next; results are
                the same with any.
            head: Level of theory; None: the model's default, or its only one.

        Raises:
            UsageError: If the device is not there, the precision is unknown or the skin is negative.
            DataError: If there is no such head, or none is named where the model has several and no default.
        """
        from macekit.interfaces.ase import MaceCalculator

        chosen = self.module.device if device is None else _device(device)
        precision = self.module.dtype if dtype is None else _precision(dtype)
        module = copy.deepcopy(at_head(self.module, head or ""))
        return MaceCalculator(module.to(device=chosen, dtype=precision), skin)

    def merge(self) -> TrainedModel:
        """The model with SSF or LoRA folded into its weights: the same predictions at the speed of the base model.

        Raises:
            UsageError: If there is no tuner, or adapters, which cannot be folded.
        """
        return TrainedModel(merged(self.module), {**self.provenance, "merged": self.config.tuner})

    def compile(self, dtype: Precision | None = None, head: str | None = None) -> CompiledModel:
        """The model folded for the inference engine, which `predict` and the ASE calculator use by themselves.

        Args:
            dtype: Precision of the engine; None: that of the model.
            head: Level of theory; None: the only one, or the default.

        Raises:
            BackendUnavailable: If the engine is not there, or does not have a feature of this model.
            UsageError: If the precision is unknown.
        """
        return CompiledModel(at_head(self.module, head or ""), None if dtype is None else _precision(dtype))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model as a directory with config.json and model.safetensors.

        Raises:
            ModelFileError: If the directory cannot be written.
        """
        save_native(self.module, Path(path), provenance=self.provenance)

    def _structures(
        self, structures: Atoms | Structure | Sequence[Atoms | Structure], head: str | None
    ) -> list[Structure]:
        return as_structures(structures, self.facts, head)


def load_model(
    path: str | os.PathLike[str], *, head: str | None = None, device: str = "auto", dtype: Precision | None = None
) -> TrainedModel:
    """The trained model in a directory.

    Args:
        path: Directory with config.json and model.safetensors, as `macekit train` or `save` write it.
        head: The level of theory to keep; None: all that it has.
        device: auto, cpu, cuda or cuda:N.
        dtype: Precision of the network; None: as it was saved.

    Raises:
        ModelFileError: If there is no model at the path, or its files are damaged.
        UsageError: If the device is not there or the precision is unknown.
        DataError: If there is no such head.
    """
    directory = Path(path)
    _refuse_what_is_no_model(directory)
    chosen = _device(device)
    module = load_native(directory, dtype=None if dtype is None else _precision(dtype), device=str(chosen))
    trained = TrainedModel(module, read_config(directory)["provenance"])
    return trained if head is None else trained.at_head(head)


def _refuse_what_is_no_model(path: Path) -> None:
    if path.is_file():
        if path.suffix.lower() in _PICKLES:
            raise ModelFileError(
                f"{path}: a legacy pickle is never read here, because it can run code of its author",
                f"convert it without executing anything in it: macekit convert {path.name} OUT",
            )
        hint = f"load the directory: {path.parent}" if (path.parent / "config.json").is_file() else None
        raise ModelFileError(f"{path}: expected a directory with config.json and model.safetensors, got a file", hint)
    if not path.exists():
        raise ModelFileError(f"{path}: no such directory; expected one with config.json and model.safetensors")
    if is_physicsml(path):
        raise ModelFileError(
            f"{path}: a model of PhysicsML", f"convert it once: macekit convert {path.name} OUT, then load OUT"
        )
    for name in ("config.json", "model.safetensors"):
        if not (path / name).is_file():
            inner = path / "model"
            hint = f"did you mean '{inner}'?" if (inner / "config.json").is_file() else None
            raise ModelFileError(f"{path}: no {name} in this directory", hint)


def _device(name: str) -> torch.device:
    try:
        return choose_device(name)
    except UsageError as error:
        raise UsageError(error.message.replace("run.device", "device", 1), "use device=auto or cpu") from None


def _precision(name: str) -> torch.dtype:
    if name not in _PRECISIONS:
        raise UsageError(f"dtype: expected 'float32' or 'float64', got {name!r}")
    return _PRECISIONS[name]
