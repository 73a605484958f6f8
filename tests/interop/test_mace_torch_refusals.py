"""What cannot be represented is refused by name: files of mace-torch that were changed after they were read."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from macekit.errors import ModelFileError
from macekit.interop.mace_torch import convert
from macekit.interop.mace_torch.archive import read_archive
from macekit.interop.mace_torch.convert import read_mace_torch
from macekit.interop.mace_torch.records import Global, Record

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture
def tree(tmp_path: Path) -> Callable[[str], Record]:
    """The records of a fixture's file."""

    def read(name: str) -> Record:
        with tarfile.open(FIXTURES / "models.tar.xz") as archive:
            archive.extract(f"{name}.model", tmp_path, filter="data")
        found = read_archive(tmp_path / f"{name}.model")
        assert isinstance(found, Record)
        return found

    return read


def child(record: Any, path: str) -> Any:
    """A module below another, such as products.0.linear."""
    for name in path.split("."):
        record = record.state["_modules"][name]
    return record


def refused(found: Any, monkeypatch: pytest.MonkeyPatch, **choices: Any) -> str:
    """The message with which a file that holds this is refused."""
    monkeypatch.setattr(convert, "read_archive", lambda _: found)
    with pytest.raises(ModelFileError) as caught:
        read_mace_torch("some.model", **choices)
    text = str(caught.value)
    assert text.startswith("some.model: ")
    assert "damaged" not in text
    return text


def renamed(path: str, kind: str) -> Callable[[Record], None]:
    def change(root: Record) -> None:
        child(root, path).kind = kind

    return change


def with_irreps(path: str, name: str, text: str) -> Callable[[Record], None]:
    def change(root: Record) -> None:
        child(root, path).state[name] = text

    return change


def with_heads(*names: str) -> Callable[[Record], None]:
    def change(root: Record) -> None:
        root.state["heads"] = list(names)

    return change


def without_readouts(root: Record) -> None:
    child(root, "readouts").state["_modules"].clear()


def with_activation(root: Record) -> None:
    child(root, "readouts.1.non_linearity.acts.0").state["f"] = Global("torch._C._nn.softplus")


def with_embedding(root: Record) -> None:
    root.state["_modules"]["joint_embedding"] = Record("mace.modules.embeddings.GenericJointEmbedding", (), {})


def diverged(root: Record) -> None:
    child(root, "products.0.linear").state["_parameters"]["weight"][3] = np.nan


def halved(root: Record) -> None:
    buffers = child(root, "products.0.symmetric_contractions.contractions.1").state["_buffers"]
    buffers["U_matrix_2"] = buffers["U_matrix_2"].astype("f2").astype("f8")


def of_other_parity(root: Record) -> None:
    buffers = child(root, "products.0.symmetric_contractions.contractions.1").state["_buffers"]
    buffers["U_matrix_2"][0, 1, 2, 0] += 0.3


def beyond_the_chains(root: Record) -> None:
    """Small, but a monomial that no coupling has: y · z in a vector's component of the same two degrees."""
    buffers = child(root, "products.0.symmetric_contractions.contractions.1").state["_buffers"]
    buffers["U_matrix_2"][0, 1, 2, 0] += 1e-8


CHANGES: dict[str, tuple[Callable[[Record], None], str]] = {
    "class of the model": (
        lambda root: setattr(root, "kind", "mace.modules.models.AtomicDielectricMACE"),
        "models of the class AtomicDielectricMACE are not read; known: ScaleShiftMACE, MACE",
    ),
    "interaction": (
        renamed("interactions.1", "mace.modules.blocks.RealAgnosticAttResidualInteractionBlock"),
        "model.interactions.1: RealAgnosticAttResidualInteractionBlock cannot be represented; known: Real",
    ),
    "read-out": (
        renamed("readouts.1", "mace.modules.blocks.GeneralNonLinearBiasReadoutBlock"),
        "model.readouts.1: the read-out GeneralNonLinearBiasReadoutBlock cannot be represented",
    ),
    "low rank": (
        renamed("products.0.linear", "mace.modules.lora.LoRAO3Linear"),
        r"model.products.0.linear: low-rank updates .* are not read\nhint: merge them with mace-torch",
    ),
    "embedding": (with_embedding, r"embeddings of charge, spin or other properties .* cannot be represented"),
    "activation": (
        with_activation,
        "the activation torch._C._nn.softplus is not read; known: abs, sigmoid, silu, tanh",
    ),
    "heads of the same name": (
        with_heads("pbe", "pbe"),
        r"heads 'pbe', 'pbe': without names of their own they cannot be told apart\nhint: give model.heads",
    ),
    "head without a name": (with_heads("", "pbe"), "heads '', 'pbe': without names of their own"),
    "no read-outs": (without_readouts, "a model without read-outs, which has nothing but reference energies"),
    "unequal multiplicities": (
        with_irreps("products.0.linear", "irreps_out", "4x0e+2x1o"),
        r"hidden irreps with different multiplicities \[2, 4\] cannot be represented",
    ),
    "an irrep twice": (
        with_irreps("products.0.linear", "irreps_out", "4x0e+4x1o+4x1o"),
        r"model.products.0: features 0e\+1o\+1o, in which an irrep occurs twice, are not read",
    ),
    "no scalars": (
        with_irreps("products.1.linear", "irreps_out", "4x1o"),
        "model.products.1: features 1o without scalars, which an energy needs",
    ),
    "edge irreps": (
        with_irreps("interactions.1.linear_up", "irreps_out", "4x0e+2x1o"),
        r"model.interactions.1.linear_up: edge irreps with different multiplicities 4x0e\+2x1o are not read",
    ),
    "parity": (
        with_irreps("interactions.1", "irreps_out", "4x0o+4x0e+4x1o"),
        r"model.interactions.1: the atomic basis 0o\+0e\+1o cannot be represented; expected 0e\+1o\+2e",
    ),
    "no parity": (lambda root: root.state.update(use_so3=True), r"features without parity \(use_so3\)"),
    "no numbers": (
        diverged,
        r"weights that are no numbers: backbone.layers.0.product.linear.weights.\d; the training has",
    ),
    "half precision": (
        halved,
        r"allowed 2e-06\nhint: a model that was turned into half precision \(float16, bfloat16\)",
    ),
    "a coupling that is none": (of_other_parity, r"not a symmetric product of natural parity: .* allowed 2e-06$"),
    "envelope": (
        lambda root: child(root, "radial_embedding.cutoff_fn").state["_buffers"].update(r_max=np.array(3.5)),
        "model.radial_embedding.cutoff_fn: an envelope that ends at 3.5 Å where the cutoff is 4 Å",
    ),
    "monomials of no coupling": (beyond_the_chains, "of order 2 to degree 1 has monomials that no chain of 3j symbols"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_it_is_refused_by_name(name: str, tree: Callable[[str], Record], monkeypatch: pytest.MonkeyPatch) -> None:
    change, message = CHANGES[name]
    root = tree("agnostic")
    change(root)
    assert re.search(message, refused(root, monkeypatch))


def test_a_head_that_was_trained_without_an_element(
    tree: Callable[[str], Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree("heads")
    child(root, "atomic_energies_fn").state["_buffers"]["atomic_energies"][0, 1] = np.nan
    text = refused(root, monkeypatch)
    assert "head 'pbe': the reference energy of C is no number" in text
    assert "leave these elements out (--elements), or choose another head (--head)" in text
    monkeypatch.setattr(Path, "read_bytes", lambda _: b"")
    assert read_mace_torch("some.model", head="r2scan")[0].facts.elements == [1, 6, 8]
    assert list(read_mace_torch("some.model", elements=[1, 8])[0].facts.heads) == ["pbe", "Default", "r2scan"]


def test_radii_that_differ(tree: Callable[[str], Record], monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree("density_residual_zbl_agnesi")
    child(root, "pair_repulsion_fn").state["_buffers"]["covalent_radii"][6] += 0.1
    assert "covalent radii of the distance transform and of the repulsion that differ" in refused(root, monkeypatch)


def test_a_width_of_gaussians_that_is_not_their_distance(
    tree: Callable[[str], Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in files in float32: it was computed of the cutoff before that was rounded."""
    root = tree("gaussian_soft")
    child(root, "radial_embedding.bessel_fn").state["coeff"] = -0.5 / 1.25**2
    monkeypatch.setattr(convert, "read_archive", lambda _: root)
    monkeypatch.setattr(Path, "read_bytes", lambda _: b"")
    basis = read_mace_torch("some.model")[0].backbone.basis
    lengths, centres = torch.tensor([0.9, 2.2], dtype=torch.float64), torch.linspace(0.0, 4.0, 4, dtype=torch.float64)
    found = basis.function(lengths, basis.cutoff, 4, basis.parameters_given.value)
    torch.testing.assert_close(found, torch.exp(-0.5 * ((lengths[:, None] - centres) / 1.25) ** 2), rtol=1e-14, atol=0)


def test_files_of_something_else(tree: Callable[[str], Record], monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree("agnostic")
    held = "it holds a ScaleShiftMACE as entry"
    assert f"found dict\nhint: {held} 'model'" in refused({"epoch": 3, "model": root}, monkeypatch)
    assert f"found list\nhint: {held} 1" in refused([None, root], monkeypatch)
    assert "found a tensor" in refused(np.zeros(3), monkeypatch)
    text = refused(Record("mace.calculators.lammps_mace.LAMMPS_MACE", (), {"_modules": {"model": root}}), monkeypatch)
    assert "the class LAMMPS_MACE are not read\nhint: convert the .model file that it was made of" in text
