"""Write small models of PhysicsML 0.6 and what they predict, for test_physicsml_variants.py.

Run where PhysicsML is installed, beside `numpy<2 pyarrow<18 datasets<3 pandas<2.3`; macekit is not needed:

    python tests/interop/make_physicsml_fixtures.py tests/interop/fixtures_physicsml

Weights are random, and few different numbers, so that the archive is small.
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from e3nn.nn import BatchNorm
from physicsml.lightning.config import PhysicsMLDataModuleConfig
from physicsml.models.mace.adapter.adapter_mace_module import PooledAdapterMACEModule
from physicsml.models.mace.adapter.default_configs import AdapterMACEModelConfig
from physicsml.models.mace.mean_var.default_configs import MeanVarMACEModelConfig
from physicsml.models.mace.mean_var.mean_var_mace_module import PooledMeanVarMACEModule
from physicsml.models.mace.ssf.default_configs import SSFMACEModelConfig
from physicsml.models.mace.ssf.ssf_mace_module import PooledSSFMACEModule
from physicsml.models.mace.supervised.default_configs import MACEModelConfig
from physicsml.models.mace.supervised.mace_module import PooledMACEModule

CLASSES = {
    "mace_model": (MACEModelConfig, PooledMACEModule),
    "mean_var_mace_model": (MeanVarMACEModelConfig, PooledMeanVarMACEModule),
    "ssf_mace_model": (SSFMACEModelConfig, PooledSSFMACEModule),
    "adapter_mace_model": (AdapterMACEModelConfig, PooledAdapterMACEModule),
}
SMALL = {"num_bessel": 4, "max_ell": 2, "correlation": 2, "hidden_irreps": "3x0e + 3x1o", "mlp_irreps": "4x0e",
         "avg_num_neighbours": 0.5, "scaling_mean": 0.7, "scaling_std": 1.3}  # fmt: skip
EVERYTHING = {"y_graph_scalars": ["u0", "lumo"], "y_graph_vector": "dipole", "y_node_scalars": ["q", "s"],
              "y_node_vector": "v"}  # fmt: skip
ENERGY = {"y_graph_scalars": ["energy"], "y_node_vector": "forces"}
MODELS: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "all_heads": ("mace_model", "float64", {"num_interactions": 3}, EVERYTHING),
    "features": ("mace_model", "float64", {"num_edge_feats": 4, "num_node_feats": 16}, EVERYTHING),
    "vectors_first": ("mace_model", "float32", {"hidden_irreps": "3x1o + 3x0e", "correlation": 3}, EVERYTHING),
    "one_layer": ("mace_model", "float64", {"num_interactions": 1}, EVERYTHING),
    "sum_of_scalars": ("mace_model", "float64", {"compute_forces": True}, {"y_graph_scalars": ["a", "b"]}),
    "mean_var": ("mean_var_mace_model", "float32", {"compute_forces": True}, ENERGY),
    "ssf": ("ssf_mace_model", "float64", {"hidden_irreps": "3x0e + 3x1o + 3x2e", "compute_forces": True}, ENERGY),
    "adapter": ("adapter_mace_model", "float64", {"compute_forces": True, "ratio_adapter_down": 2}, ENERGY),
    "adapter_without_channels": ("adapter_mace_model", "float32", {"num_interactions": 3}, EVERYTHING),
}
"""Name of the model, precision, architecture, targets."""
MAPPING = {"8": 0, "1": 1, "7": 2, "6": 3}
ENERGIES = {"8": -75.2, "1": {"0": -0.6, "1": 0.0}, "7": -54.7, "6": -38.1}
NUMBERS = [[8, 1, 1, 6, 7, 1, 6], [6, 1, 8]]
BONDS = [[[0, 1, 0], [0, 2, 0], [3, 4, 2], [3, 6, 1]], [[0, 1, 0], [0, 2, 1]]]
"""Atoms and which of four kinds, by structure."""
CHARGES = [[0, 0, 1, 0, -1, 0, 0], [0, 0, -2]]
CUTOFF = 4.0


def structures() -> list[np.ndarray]:
    generator = np.random.default_rng(5)
    found = []
    for numbers in NUMBERS:
        positions = np.zeros((0, 3))
        while len(positions) < len(numbers):
            new = generator.uniform(0.0, 2.6, 3)
            if not len(positions) or np.linalg.norm(positions - new, axis=1).min() > 0.9:
                positions = np.vstack([positions, new])
        found.append(positions)
    return found


def batch(positions: list[np.ndarray], num_node_feats: int, num_edge_feats: int) -> dict[str, torch.Tensor]:
    edges, bond_rows, start = [], [], 0
    for x, bonds in zip(positions, BONDS, strict=True):
        distances = np.linalg.norm(x[:, None] - x[None], axis=-1)
        kinds = {pair: kind for i, j, kind in bonds for pair in ((i, j), (j, i))}
        for i, j in zip(*np.nonzero((distances < CUTOFF) & (distances > 0)), strict=True):
            edges.append([i + start, j + start])
            bond_rows.append([float(kinds.get((i, j)) == kind) for kind in range(4)])
        start += len(x)
    species = [MAPPING[str(number)] for numbers in NUMBERS for number in numbers]
    attributes = torch.eye(4)[species]
    if num_node_feats > 4:
        charges = [charge + 5 for charges in CHARGES for charge in charges]
        attributes = torch.cat([attributes, torch.eye(12)[charges]], dim=1)
    sizes = [len(x) for x in positions]
    neutral = [sum(energy_of(number) for number in numbers) for numbers in NUMBERS]
    found = {
        "coordinates": torch.tensor(np.concatenate(positions)),
        "edge_index": torch.tensor(edges).T.contiguous(),
        "node_attrs": attributes.double(),
        "batch": torch.repeat_interleave(torch.arange(2), torch.tensor(sizes)),
        "ptr": torch.tensor([0, *np.cumsum(sizes).tolist()]),
        "num_graphs": torch.tensor(2),
        "num_nodes": torch.tensor(sum(sizes)),
        "total_atomic_energy": torch.tensor(neutral, dtype=torch.float64),
    }
    if num_edge_feats:
        found["edge_attrs"] = torch.tensor(bond_rows, dtype=torch.float64)
    return found


def energy_of(number: int) -> float:
    energy = ENERGIES[str(number)]
    return energy["0"] if isinstance(energy, dict) else energy


def fill(module: torch.nn.Module) -> None:
    """Few different random numbers, also for the statistics of normalisations."""
    generator = torch.Generator().manual_seed(3)
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad or "U_matrices" in name:
            continue
        levels = torch.tensor([-1.25, -0.75, 0.25, 1.0])
        chosen = torch.randint(4, parameter.shape, generator=generator)
        parameter.data = levels[chosen].to(parameter.dtype)
    for norm in module.modules():
        if isinstance(norm, BatchNorm):
            for buffer, low in ((norm.running_mean, -0.5), (norm.running_var, 0.3)):
                buffer.data = (low + torch.rand(buffer.shape, generator=generator)).to(buffer.dtype)


def main(folder: Path) -> None:
    positions = structures()
    outputs: dict[str, np.ndarray] = {}
    for i, x in enumerate(positions):
        outputs |= {f"positions_{i}": x, f"numbers_{i}": np.array(NUMBERS[i])}
        outputs |= {f"charges_{i}": np.array(CHARGES[i]), f"bonds_{i}": np.array(BONDS[i])}
    with tarfile.open(folder / "models.tar.xz", "w:xz") as archive:
        for name, (kind, dtype, choices, targets) in MODELS.items():
            torch.set_default_dtype(getattr(torch, dtype))
            values = {**SMALL, "num_node_feats": 4, **choices}
            config_class, module_class = CLASSES[kind]
            datamodule = {"num_elements": 4, "cut_off": CUTOFF, **targets}
            config = config_class(**values, datamodule=PhysicsMLDataModuleConfig(**datamodule))
            module = module_class(model_config=config).eval()
            fill(module)
            features = {"atomic_number_mapping": MAPPING, "atomic_energies": ENERGIES, "backend": "rdkit"}
            if values["num_node_feats"] > 4:
                features["atom_features"] = ["formal_charge"]
            if values.get("num_edge_feats"):
                features["bond_features"] = ["order"]
            metadata = {
                "config": [{"column": "mol", "representations": [{"name": "physicsml_features", "config": features}]}],
                "version": 1,
            }
            buffer = io.BytesIO()
            torch.save({"state_dict": module.state_dict()}, buffer)
            description = {"name": kind, "config": {**values, "datamodule": datamodule}, "version": "0.6.0"}
            for file, content in (
                ("model_config.json", json.dumps(description).encode()),
                ("featurisation_metadata.json", json.dumps(metadata).encode()),
                ("model_artefacts/module_checkpoint.ckpt", buffer.getvalue()),
            ):
                member = tarfile.TarInfo(f"{name}/{file}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
            torch.set_default_dtype(torch.float64)
            data = batch(positions, values["num_node_feats"], values.get("num_edge_feats", 0))
            data["coordinates"].requires_grad_(True)
            found = module.double()(data)
            if choices.get("compute_forces"):
                found["y_node_vector"] = module.compute_forces_by_gradient(
                    found["y_graph_scalars"], data["coordinates"]
                )
            outputs |= {f"{name}/{key}": value.detach().numpy() for key, value in found.items() if key[0] == "y"}
    np.savez_compressed(folder / "outputs.npz", **outputs)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
