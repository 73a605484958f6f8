"""Train, fine-tune and run MACE models.

Every public name is imported on first use, so that `import macekit` is quick and loads neither torch nor ASE.

Example:
    >>> import macekit
    >>> macekit.train("run.yaml")                              # doctest: +SKIP
    >>> model = macekit.load_model("runs/ethanol/model")       # doctest: +SKIP
    >>> atoms.calc = model.ase_calculator()                    # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from macekit.config.facts import DatasetFacts as DatasetFacts
    from macekit.config.loading import load_run as load_run
    from macekit.config.model import ModelConfig as ModelConfig
    from macekit.config.run import TrainingRun as TrainingRun
    from macekit.data.structure import Structure as Structure
    from macekit.errors import BackendUnavailable as BackendUnavailable
    from macekit.errors import ConfigError as ConfigError
    from macekit.errors import DataError as DataError
    from macekit.errors import MacekitError as MacekitError
    from macekit.errors import ModelFileError as ModelFileError
    from macekit.errors import NonFiniteError as NonFiniteError
    from macekit.errors import ResumeError as ResumeError
    from macekit.errors import RunStopped as RunStopped
    from macekit.errors import UsageError as UsageError
    from macekit.interfaces.runs import train as train
    from macekit.interfaces.trained import TrainedModel as TrainedModel
    from macekit.interfaces.trained import load_model as load_model
    from macekit.interop.physicsml.config import from_physicsml as from_physicsml
    from macekit.model.build import build_model as build_model

    __version__: str

_HOMES = {
    "BackendUnavailable": "macekit.errors",
    "ConfigError": "macekit.errors",
    "DataError": "macekit.errors",
    "DatasetFacts": "macekit.config.facts",
    "MacekitError": "macekit.errors",
    "ModelConfig": "macekit.config.model",
    "ModelFileError": "macekit.errors",
    "NonFiniteError": "macekit.errors",
    "ResumeError": "macekit.errors",
    "RunStopped": "macekit.errors",
    "Structure": "macekit.data.structure",
    "TrainedModel": "macekit.interfaces.trained",
    "TrainingRun": "macekit.config.run",
    "UsageError": "macekit.errors",
    "build_model": "macekit.model.build",
    "from_physicsml": "macekit.interop.physicsml.config",
    "load_model": "macekit.interfaces.trained",
    "load_run": "macekit.config.loading",
    "train": "macekit.interfaces.runs",
}

__all__ = [
    "BackendUnavailable",
    "ConfigError",
    "DataError",
    "DatasetFacts",
    "MacekitError",
    "ModelConfig",
    "ModelFileError",
    "NonFiniteError",
    "ResumeError",
    "RunStopped",
    "Structure",
    "TrainedModel",
    "TrainingRun",
    "UsageError",
    "__version__",
    "build_model",
    "from_physicsml",
    "load_model",
    "load_run",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import a public name from the module that defines it, once."""
    if name == "__version__":
        value: Any = _installed_version()
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'macekit' has no attribute '{name}'; public names: {', '.join(__all__)}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _installed_version() -> str:
    """The version of the installed distribution; of a bare checkout, "0+unknown"."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("macekit")
    except PackageNotFoundError:
        return "0+unknown"
