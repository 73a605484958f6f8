"""What a model of mace-torch is: class, blocks, numbers; or the name of what cannot be represented."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from macekit.errors import ModelFileError, did_you_mean
from macekit.interop.mace_torch.maps import activation, gate_functions
from macekit.interop.mace_torch.tree import Module
from macekit.o3 import Irrep

MODELS = ("ScaleShiftMACE", "MACE", "EnergyDipolesMACE", "AtomicDipolesMACE")
INTERACTIONS = {
    "RealAgnosticInteractionBlock": "agnostic",
    "RealAgnosticResidualInteractionBlock": "agnostic_residual",
    "RealAgnosticDensityInteractionBlock": "density",
    "RealAgnosticDensityResidualInteractionBlock": "density_residual",
    "RealAgnosticResidualNonLinearInteractionBlock": "nonlinear_residual",
}
BASES = {"BesselBasis": "bessel", "GaussianBasis": "gaussian", "ChebychevBasis": "chebyshev"}
TRANSFORMS = {"AgnesiTransform": "agnesi", "SoftTransform": "soft"}
READOUTS = (
    "LinearReadoutBlock",
    "NonLinearReadoutBlock",
    "NonLinearBiasReadoutBlock",
    "LinearDipoleReadoutBlock",
    "NonLinearDipoleReadoutBlock",
)


@dataclass(frozen=True, slots=True)
class Description:
    """Facts and choices of a mace-torch model."""

    model_class: str
    elements: list[int]
    """Atomic numbers in the order of the file."""
    heads: list[str]
    cutoff: float
    """Å."""
    radial_basis: str
    num_basis: int
    cutoff_power: int
    distance_transform: str
    applies_cutoff_to_basis: bool
    pair_repulsion: str
    channels: int
    hidden_irreps: list[str]
    """Of the output of every layer."""
    max_ell: int
    correlation: list[int]
    """Of every layer."""
    interactions: list[str]
    """Kind of every layer."""
    edge_irreps: list[str]
    """Of what is sent in every layer."""
    radial_mlp: list[int]
    readouts: list[str]
    mlp_channels: int
    """Of one head."""
    mlp_activation: str
    avg_num_neighbours: float
    reference_energies: dict[str, list[float]]
    """By head, eV."""
    scale: dict[str, float]
    shift: dict[str, float]
    dtype: str
    num_parameters: int
    vector_gate: str
    """Function of the gates of a dipole's read-out."""

    @property
    def predicts_energy(self) -> bool:
        """Whether the model has an energy."""
        return self.model_class != "AtomicDipolesMACE"

    @property
    def predicts_dipole(self) -> bool:
        """Whether the model has a dipole."""
        return "Dipole" in self.model_class

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @property
    def default_head(self) -> str | None:
        """The only head, or the one called default; None where there is neither."""
        named = self.heads if len(self.heads) == 1 else [head for head in self.heads if head.lower() == "default"]
        return named[0] if named else None

    def heads_named(self, name: str | None) -> list[str]:
        """The head of a name; None: all.

        Raises:
            ModelFileError: If there is none of that name.
        """
        if name is None:
            return self.heads
        if name not in self.heads:
            raise ModelFileError(
                f"head '{name}': the model has {', '.join(self.heads)}", did_you_mean(name, self.heads)
            )
        return [name]


def describe(model: Module) -> Description:
    """Read everything but the weights.

    Raises:
        ModelFileError: If the model has a feature that cannot be represented; the message names it.
    """
    _refuse_unknown(model)
    interactions, products, readouts = (model.children(name) for name in ("interactions", "products", "readouts"))
    radial = model.child("radial_embedding")
    basis, envelope = radial.child("bessel_fn"), radial.child("cutoff_fn")
    heads = _heads(model)
    if not readouts:
        raise ModelFileError("a model without read-outs, which has nothing but reference energies, is not read")
    zeros = np.zeros((1, model.tensor("atomic_numbers").size))
    has_energies = model.has("atomic_energies_fn")
    energies = np.atleast_2d(model.child("atomic_energies_fn").tensor("atomic_energies")) if has_energies else zeros
    scale_shift = model.child("scale_shift") if model.class_name == "ScaleShiftMACE" else None
    scales, shifts = (
        np.broadcast_to(np.atleast_1d(scale_shift.tensor(name)) if scale_shift else default, len(heads))
        for name, default in (("scale", np.ones(1)), ("shift", np.zeros(1)))
    )
    if energies.shape[0] != len(heads):
        energies = np.broadcast_to(energies, (len(heads), energies.shape[1]))
    mlp_channels, mlp_activation, vector_gate = _output_mlp(readouts[-1], len(heads))
    hidden, channels = _hidden(products, needs_scalars=has_energies)
    return Description(
        model_class=model.class_name,
        elements=[int(number) for number in model.tensor("atomic_numbers")],
        heads=heads,
        cutoff=_cutoff(model, envelope),
        radial_basis=_entry(BASES, basis),
        num_basis=int(radial.number("out_dim")),
        cutoff_power=int(envelope.number("p")),
        distance_transform=_entry(TRANSFORMS, radial.child("distance_transform"))
        if radial.has("distance_transform")
        else "none",
        applies_cutoff_to_basis=bool(radial.get("apply_cutoff", True)),
        pair_repulsion="zbl" if model.has("pair_repulsion_fn") else "none",
        channels=channels,
        hidden_irreps=["+".join(map(str, irreps)) for irreps in hidden],
        max_ell=_max_ell(interactions),
        correlation=[_correlation(product) for product in products],
        interactions=[_entry(INTERACTIONS, interaction) for interaction in interactions],
        edge_irreps=[_sent(interaction.child("linear_up")) for interaction in interactions],
        radial_mlp=[int(width) for width in interactions[0].child("conv_tp_weights").get("hs")[1:-1]],
        readouts=[readout.class_name for readout in readouts],
        mlp_channels=mlp_channels,
        mlp_activation=mlp_activation,
        avg_num_neighbours=interactions[0].number("avg_num_neighbors"),
        reference_energies={head: row.tolist() for head, row in zip(heads, energies, strict=True)},
        scale=dict(zip(heads, scales.tolist(), strict=True)),
        shift=dict(zip(heads, shifts.tolist(), strict=True)),
        dtype=str(model.child("node_embedding").child("linear").get("weight").dtype),
        num_parameters=_num_parameters(model),
        vector_gate=vector_gate,
    )


def _heads(model: Module) -> list[str]:
    heads = [str(head) for head in model.get("heads") or ["Default"]]
    if len(set(heads)) < len(heads) or "" in heads:
        raise ModelFileError(
            f"heads {', '.join(map(repr, heads))}: without names of their own they cannot be told apart",
            "give model.heads different names with mace-torch, and save the model again",
        )
    return heads


def _hidden(products: list[Module], needs_scalars: bool) -> tuple[list[list[Irrep]], int]:
    """Irreps of what every layer puts out, and their multiplicity."""
    found, channels = [], set()
    for product in products:
        multiplicities, irreps = zip(*product.child("linear").irreps("irreps_out"), strict=True)
        channels |= set(multiplicities)
        text = "+".join(map(str, irreps))
        if len(set(irreps)) < len(irreps):
            raise ModelFileError(f"{product.path}: features {text}, in which an irrep occurs twice, are not read")
        if needs_scalars and Irrep.natural(0) not in irreps:
            raise ModelFileError(f"{product.path}: features {text} without scalars, which an energy needs")
        found.append(list(irreps))
    if len(channels) != 1:
        raise ModelFileError(f"hidden irreps with different multiplicities {sorted(channels)} cannot be represented")
    return found, channels.pop()


def _refuse_unknown(model: Module) -> None:
    if model.class_name not in MODELS:
        raise ModelFileError(f"models of the class {model.class_name} are not read; known: {', '.join(MODELS)}")
    for name, feature in (
        ("joint_embedding", "embeddings of charge, spin or other properties (joint_embedding)"),
        ("embedding_readout", "a read-out of the embedding (embedding_readout)"),
    ):
        if model.has(name):
            raise ModelFileError(f"{feature} cannot be represented")
    if lora := next((module for module in model.walk() if module.class_name.startswith("LoRA")), None):
        raise ModelFileError(
            f"{lora.path}: low-rank updates ({lora.class_name}) that are not merged into the weights are not read",
            "merge them with mace-torch (merge_lora_weights) first",
        )
    if model.get("use_so3", False):
        raise ModelFileError("features without parity (use_so3) cannot be represented")
    for module in model.walk():
        for name in ("cueq_config", "oeq_config"):
            if module.get(name) is not None and _is_enabled(module.get(name)):
                raise ModelFileError(
                    f"{module.path}: weights in the layout of an acceleration library ({name}) are not read",
                    "convert the model back to e3nn with mace-torch (mace_cueq_to_e3nn) first",
                )
    for readout in model.children("readouts"):
        if readout.class_name not in READOUTS:
            raise ModelFileError(f"{readout.path}: the read-out {readout.class_name} cannot be represented")


def _is_enabled(config: Any) -> bool:
    state = getattr(config, "state", config)
    return not isinstance(state, dict) or bool(state.get("enabled", True))


def _cutoff(model: Module, envelope: Module) -> float:
    """Where the envelope ends; old files have the same number in two precisions."""
    reach = envelope.number("r_max", model.number("r_max"))
    if not math.isclose(reach, model.number("r_max"), rel_tol=1e-6):
        raise ModelFileError(
            f"{envelope.path}: an envelope that ends at {reach:g} Å where the cutoff is {model.number('r_max'):g} Å"
        )
    return reach


def _entry(table: dict[str, str], module: Module) -> str:
    if module.class_name not in table:
        raise ModelFileError(
            f"{module.path}: {module.class_name} cannot be represented; known: {', '.join(table)}",
        )
    return table[module.class_name]


def _max_ell(interactions: list[Module]) -> int:
    """Degrees of the atomic basis: every one of 0 ... max_ell once, with natural parity."""
    for interaction in interactions:
        irreps = [irrep for _, irrep in interaction.irreps("irreps_out")]
        if irreps != [Irrep.natural(l) for l in range(len(irreps))]:
            raise ModelFileError(
                f"{interaction.path}: the atomic basis {'+'.join(map(str, irreps))} cannot be represented; "
                "expected 0e+1o+2e+..."
            )
    return len(interactions[0].irreps("irreps_out")) - 1


def _correlation(product: Module) -> int:
    contractions = product.child("symmetric_contractions").children("contractions")
    found = {len(contraction.tensors("weights")) + 1 for contraction in contractions}
    if len(found) != 1:
        raise ModelFileError(f"{product.path}: correlation orders that differ between irreps cannot be represented")
    return found.pop()


def _output_mlp(readout: Module, num_heads: int) -> tuple[int, str, str]:
    """Channels of one head, activation and gate; a linear read-out of the last layer is an MLP without activation."""
    if readout.class_name in ("LinearReadoutBlock", "LinearDipoleReadoutBlock"):
        return 1, "none", "sigmoid"
    if readout.class_name == "NonLinearDipoleReadoutBlock":
        widths = {count for count, _ in readout.irreps("hidden_irreps")}
        if len(widths) != 1:
            raise ModelFileError(f"{readout.path}: scalars and vectors of different numbers cannot be represented")
        (name, _), (gate, _) = gate_functions(readout.child("equivariant_nonlin"))
        return widths.pop(), name, gate
    width = sum(count for count, irrep in readout.irreps("hidden_irreps") if irrep.l == 0)
    activations = readout.child("non_linearity").state["_modules"]["acts"].state["_modules"]
    name, _ = activation(activations.get("0"), f"{readout.path}.non_linearity")
    return width // num_heads, name, "sigmoid"


def _num_parameters(model: Module) -> int:
    parameters = [value for module in model.walk() for value in (module.state.get("_parameters") or {}).values()]
    lists = [module for module in model.walk() if module.class_name == "ParameterList"]
    loose = [value for module in lists for key, value in module.state.items() if key.isdecimal()]
    return sum(int(value.size) for value in (*parameters, *loose) if isinstance(value, np.ndarray))


def _sent(linear: Module) -> str:
    """What a layer sends; degrees that its features do not have are zeros in the file and are left out."""
    known = {irrep for _, irrep in linear.irreps("irreps_in")}
    sent = [(count, irrep) for count, irrep in linear.irreps("irreps_out") if irrep in known]
    if len({count for count, _ in sent}) > 1:
        raise ModelFileError(f"{linear.path}: edge irreps with different multiplicities {_text(sent)} are not read")
    return _text(sent)


def _text(irreps: list[tuple[int, Irrep]]) -> str:
    return "+".join(f"{count}x{irrep}" for count, irrep in irreps)
