"""Write the fixtures of `test_mace_torch_options.py`: small fresh models of mace-torch and what they compute.

Runs in an environment of its own, never beside macekit's dependencies:

    python -m venv peer && peer/bin/pip install mace-torch==0.3.16 cuequivariance cuequivariance-torch
    TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 peer/bin/python -W ignore tests/interop/make_mace_torch_fixtures.py [ARCHIVE]

cuequivariance is for the reduced products (`use_reduced_cg`) alone, and for max_ell 0, which mace-torch cannot build
otherwise. The model files are together in archives, because they compress well together; each has an npz file with
structures, energies, forces and the features after every interaction and product, all in float64.
"""

from __future__ import annotations

import io
import json
import lzma
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from e3nn import o3
from mace import data, modules
from mace.tools import AtomicNumberTable, torch_geometric

OUT = Path(__file__).parent / "fixtures"
BLOCKS = modules.interaction_classes
KINDS = {
    "agnostic": "RealAgnosticInteractionBlock",
    "agnostic_residual": "RealAgnosticResidualInteractionBlock",
    "density": "RealAgnosticDensityInteractionBlock",
    "density_residual": "RealAgnosticDensityResidualInteractionBlock",
    "nonlinear": "RealAgnosticResidualNonLinearInteractionBlock",
}
BASE: dict[str, Any] = {
    "r_max": 4.0,
    "num_bessel": 4,
    "num_polynomial_cutoff": 5,
    "max_ell": 2,
    "interaction_cls_first": "agnostic",
    "interaction_cls": "agnostic_residual",
    "num_interactions": 2,
    "hidden_irreps": "4x0e+4x1o",
    "MLP_irreps": "3x0e",
    "atomic_energies": [-13.6, -1030.5, -2041.8],
    "avg_num_neighbors": 5.25,
    "atomic_numbers": [1, 6, 8],
    "correlation": 2,
    "gate": torch.nn.functional.silu,
    "radial_MLP": [6, 5],
    "atomic_inter_scale": 0.75,
    "atomic_inter_shift": 0.125,
}
MODELS: dict[str, dict[str, Any]] = {
    "agnostic": {},
    "residual_first": {"interaction_cls_first": "agnostic_residual", "correlation": 3, "hidden_irreps": "4x0e"},
    "density": {"interaction_cls_first": "density", "interaction_cls": "density_residual"},
    "density_residual_zbl_agnesi": {
        "interaction_cls_first": "density_residual",
        "interaction_cls": "density_residual",
        "pair_repulsion": True,
        "distance_transform": "Agnesi",
        "correlation": 3,
    },
    "gaussian_soft": {"radial_type": "gaussian", "distance_transform": "Soft", "num_polynomial_cutoff": 6},
    "chebyshev_agnesi": {"radial_type": "chebyshev", "distance_transform": "Agnesi"},
    "heads": {
        "heads": ["pbe", "Default", "r2scan"],
        "atomic_energies": [[-13.6, -1030.5, -2041.8], [-13.5, -1031.0, -2040.0], [-1.0, -2.0, -3.0]],
        "atomic_inter_scale": [0.75, 1.5, 0.5],
        "atomic_inter_shift": [0.125, -0.25, 0.0],
    },
    "no_scale_shift_zbl": {"class": "MACE", "pair_repulsion": True, "gate": torch.tanh},
    "gate_abs": {"gate": torch.abs, "num_interactions": 3},
    "gate_none": {"gate": None, "hidden_irreps": "4x0e", "num_interactions": 1},
    "hidden_two": {"hidden_irreps": "4x0e+4x1o+4x2e", "max_ell": 3, "num_interactions": 3},
    "correlation_four": {"correlation": 4, "max_ell": 1, "hidden_irreps": "3x0e+3x1o"},
    "correlation_one": {"correlation": 1, "max_ell": 4, "hidden_irreps": "3x0e+3x1o"},
    "correlation_per_layer": {"correlation": [3, 2]},
    "last_readout": {"use_last_readout_only": True, "use_agnostic_product": True},
    "late_cutoff": {"apply_cutoff": False, "interaction_cls_first": "density", "interaction_cls": "density_residual"},
    "edge_irreps": {"edge_irreps": "3x0e+3x1o", "hidden_irreps": "4x0e+4x1o+4x2e", "use_edge_irreps_first": True},
    "keep_last": {"keep_last_layer_irreps": True},
    "nonlinear": {
        "interaction_cls_first": "nonlinear",
        "interaction_cls": "nonlinear",
        "apply_cutoff": False,
        "hidden_irreps": "4x0e+4x1o+4x2e",
        "edge_irreps": "3x0e+3x1o",
    },
    "nonlinear_early_cutoff": {"interaction_cls_first": "density", "interaction_cls": "nonlinear"},
    "energy_dipole": {"class": "EnergyDipolesMACE", "MLP_irreps": "3x0e+3x1o"},
    "energy_dipole_tanh": {
        "class": "EnergyDipolesMACE",
        "MLP_irreps": "3x0e+3x1o",
        "gate": torch.tanh,
        "hidden_irreps": "4x0e+4x1o+4x2e",
        "interaction_cls_first": "agnostic_residual",
        "num_interactions": 3,
    },
    "dipole": {"class": "AtomicDipolesMACE", "MLP_irreps": "3x1o", "atomic_energies": None},
    "biased_readout_heads": {
        "readout_cls": "NonLinearBiasReadoutBlock",
        "heads": ["first", "second"],
        "atomic_energies": [[-13.6, -1030.5, -2041.8], [-13.5, -1031.0, -2040.0]],
        "atomic_inter_scale": [0.75, 1.5],
        "atomic_inter_shift": [0.125, -0.25],
    },
    "float32": {"dtype": torch.float32, "correlation": 3},
    "heads_zbl": {
        "heads": ["mp_pbe", "r2scan"],
        "atomic_energies": [[-13.6, -1030.5, -2041.8], [-13.5, -1031.0, -2040.0]],
        "atomic_inter_scale": [0.75, 1.5],
        "atomic_inter_shift": [0.125, -0.25],
        "pair_repulsion": True,
        "interaction_cls_first": "density",
        "interaction_cls": "density_residual",
    },
    "edge_irreps_beyond": {"edge_irreps": "3x0e+3x1o+3x2e", "interaction_cls": "nonlinear", "apply_cutoff": False},
    "dipole_one_layer": {
        "class": "AtomicDipolesMACE",
        "MLP_irreps": "3x1o",
        "atomic_energies": None,
        "num_interactions": 1,
    },
    "energy_dipole_one_layer": {"class": "EnergyDipolesMACE", "MLP_irreps": "3x0e+3x1o", "num_interactions": 1},
}


UNUSUAL: dict[str, dict[str, Any]] = {
    "float32_tensors": {"correlation": 3, "hidden_irreps": "3x0e+3x1o+3x2e", "avg_num_neighbors": 1.0},
    "float32_chebyshev": {"correlation": 3, "radial_type": "chebyshev", "avg_num_neighbors": 1.0, "radial_MLP": [16]},
    "float32_fourth_order": {"correlation": 4, "hidden_irreps": "3x0e+3x1o", "avg_num_neighbors": 1.0},
    "float32_saved_as_float64": {"correlation": 3, "saved_as": torch.float64},
    "float64_saved_as_float32": {"correlation": 3, "dtype": torch.float64, "saved_as": torch.float32},
    "reduced_products": {
        "correlation": 3,
        "hidden_irreps": "3x0e+3x1o+3x2e",
        "use_reduced_cg": True,
        "interaction_cls": "nonlinear",
        "use_agnostic_product": True,
    },
    "max_ell_0": {"max_ell": 0, "correlation": 3, "use_reduced_cg": True, "dtype": torch.float64},
    "max_ell_0_vectors": {"max_ell": 0, "use_reduced_cg": True, "dtype": torch.float64, "num_interactions": 3},
    "no_radial_layers": {"radial_MLP": [], "interaction_cls_first": "density", "dtype": torch.float64},
    "four_layers": {"num_interactions": 4, "hidden_irreps": "3x0e", "correlation": [1, 3, 2, 4], "max_ell": 1},
    "odd_heads": {
        "heads": ["a b", "µ κ.levels.0.", "DEFAULT"],
        "atomic_energies": [[-13.6, -1030.5, -2041.8], [-13.5, -1031.0, -2040.0], [-1.0, -2.0, -3.0]],
        "atomic_inter_scale": [-0.75, 1.5, 0.0],
        "atomic_inter_shift": [0.125, -0.25, 0.0],
    },
    "elements_out_of_order": {"atomic_numbers": [8, 1, 6], "pair_repulsion": True, "distance_transform": "Soft"},
    "in_a_wrapper": {"wrapper": torch.nn.DataParallel, "num_bessel": 1, "num_polynomial_cutoff": 1},
}
"""In float32 where they do not say otherwise."""
ARCHIVES: dict[str, dict[str, dict[str, Any]]] = {
    "models": MODELS,
    "unusual": {name: {"dtype": torch.float32, **options} for name, options in UNUSUAL.items()},
}


def structures() -> dict[str, Atoms]:
    """Without and with periodicity, an isolated atom and a close pair."""
    generator = np.random.default_rng(4)
    molecule = Atoms("COH3CO", generator.normal(size=(7, 3)) * 1.4)
    cell = np.array([[4.1, 0.3, 0.0], [-0.7, 4.5, 0.4], [0.5, 0.2, 4.8]])
    crystal = Atoms("CHOH", generator.uniform(size=(4, 3)) @ cell, cell=cell, pbc=True)
    pair = Atoms("CO", [[0.0, 0.0, 0.0], [0.5, 0.3, 0.4]])
    return {"molecule": molecule, "crystal": crystal, "atom": Atoms("O", [[0.1, 0.2, 0.3]]), "pair": pair}


def build(options: dict[str, Any]) -> torch.nn.Module:
    """A fresh model with every weight random, E0s and scales included as given."""
    values = {**BASE, **options}
    kind, dtype = values.pop("class", "ScaleShiftMACE"), values.pop("dtype", torch.float64)
    torch.set_default_dtype(dtype)
    torch.manual_seed(11)
    for name in ("interaction_cls", "interaction_cls_first"):
        values[name] = BLOCKS[KINDS[values[name]]]
    if "readout_cls" in values:
        values["readout_cls"] = modules.readout_classes[values["readout_cls"]]
    for name in ("hidden_irreps", "MLP_irreps", "edge_irreps"):
        if values.get(name) is not None:
            values[name] = o3.Irreps(values[name])
    if values["atomic_energies"] is not None:
        values["atomic_energies"] = np.array(values["atomic_energies"])
    values["num_elements"] = len(values["atomic_numbers"])
    values.setdefault("use_reduced_cg", False)
    if kind != "ScaleShiftMACE":
        del values["atomic_inter_scale"], values["atomic_inter_shift"]
    model = getattr(modules, kind)(**values)
    with torch.no_grad():  # nothing stays at a start value that would hide it, such as 0 or 1
        for name, parameter in model.named_parameters():
            if "_embedding.weight" in name or bool((parameter == parameter.flatten()[0]).all()):
                parameter.add_(0.4 * torch.randn_like(parameter))
    return model


def heads_of(model: torch.nn.Module) -> list[str]:
    """Levels of theory; models of dipoles have none."""
    return list(getattr(model, "heads", ["Default"]))


def evaluate(model: torch.nn.Module, atoms: Atoms, head: str, with_forces: bool) -> dict[str, np.ndarray]:
    """Energy, forces, and what every interaction and product put out, in float64."""
    torch.set_default_dtype(torch.float64)
    table, heads = AtomicNumberTable([int(z) for z in model.atomic_numbers]), heads_of(model)
    configuration = data.config_from_atoms(atoms, head_name=head)
    batch = data.AtomicData.from_config(configuration, z_table=table, cutoff=float(model.r_max), heads=heads)
    loader = torch_geometric.dataloader.DataLoader([batch], batch_size=1)
    found: dict[str, np.ndarray] = {}

    def keep(name: str) -> Any:
        def hook(_: Any, __: Any, output: Any) -> None:
            value = output[0] if isinstance(output, tuple) else output
            found[name] = value.detach().numpy()

        return hook

    blocks = [("interaction", model.interactions), ("product", model.products)]
    hooks = [b.register_forward_hook(keep(f"{kind}{i}")) for kind, bs in blocks for i, b in enumerate(bs)]
    inputs = next(iter(loader)).to_dict()
    inputs["charges"] = torch.zeros(len(atoms))
    output = model(inputs, compute_force=with_forces)
    for hook in hooks:
        hook.remove()
    for key in ("energy", "dipole"):
        if key in output:
            found[key] = output[key].detach().numpy()
    if with_forces:
        found["forces"] = output["forces"].detach().numpy()
    return found


def write(name: str, options: dict[str, Any]) -> bytes:
    """The outputs of one model; returns its file."""
    ways = {"saved_as": None, "wrapper": None}
    model = build({key: value for key, value in options.items() if key not in ways})
    ways |= {key: value for key, value in options.items() if key in ways}
    buffer = io.BytesIO()
    if ways["saved_as"] is not None:
        model = model.to(ways["saved_as"])
    torch.save(model if ways["wrapper"] is None else ways["wrapper"](model), buffer)
    model = model.double()
    arrays: dict[str, np.ndarray] = {}
    with_forces = name not in (
        "chebyshev_agnesi",
        "float32_chebyshev",
        "dipole",
        "dipole_one_layer",
    )  # torch cannot differentiate that basis
    for head in heads_of(model):
        for label, atoms in structures().items():
            found = evaluate(model, atoms, head, with_forces)
            arrays |= {f"{head}/{label}/{key}": value for key, value in found.items()}
    for label, atoms in structures().items():
        arrays[f"{label}/numbers"], arrays[f"{label}/positions"] = atoms.numbers, atoms.positions
        arrays[f"{label}/cell"], arrays[f"{label}/pbc"] = atoms.cell.array, atoms.pbc
    arrays["provenance"] = np.array(json.dumps({"mace-torch": "0.3.16", "torch": torch.__version__, "model": name}))
    np.savez_compressed(OUT / f"{name}.npz", **arrays)
    print(name, (OUT / f"{name}.npz").stat().st_size // 1024, "kB", flush=True)
    return buffer.getvalue()


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    for name_of_archive in sys.argv[1:] or ARCHIVES:
        path = OUT / f"{name_of_archive}.tar.xz"
        with tarfile.open(path, "w:xz", preset=9 | lzma.PRESET_EXTREME) as archive:
            for fixture, options in ARCHIVES[name_of_archive].items():
                content = write(fixture, options)
                member = tarfile.TarInfo(f"{fixture}.model")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
