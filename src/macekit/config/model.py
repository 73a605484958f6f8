"""The model section: the documented configuration of the four models, letter by letter."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from macekit.config.base import Config

Tuner = Literal["none", "ssf", "adapter", "lora"]
Interaction = Literal["agnostic", "agnostic_residual", "density", "density_residual", "nonlinear_residual"]
Uncertainty = Literal["none", "gaussian"]
ModelName = Literal["mace_model", "mean_var_mace_model", "ssf_mace_model", "adapter_mace_model"]
Automatic = Literal["auto"]
NonNegativeFloat = Annotated[float, Field(ge=0)]

VARIANTS: dict[str, dict[str, str]] = {
    "mace_model": {},
    "mean_var_mace_model": {"uncertainty": "gaussian"},
    "ssf_mace_model": {"tuner": "ssf"},
    "adapter_mace_model": {"tuner": "adapter"},
}
"""The public names as differences from the base model. Nothing else knows these names."""

BACKBONE_FIELDS = (
    "num_bessel", "num_polynomial_cutoff", "max_ell", "num_interactions", "hidden_irreps", "avg_num_neighbours",
    "correlation", "radial_mlp", "interaction_first", "interaction", "edge_irreps", "edge_irreps_first",
    "radial_basis", "distance_transform", "envelope", "pair_repulsion", "radial_constants", "couplings",
    "coupling_rounding", "coupling_terms", "scalar_bias", "node_normalisation",
)  # fmt: skip
"""Fields that message passing depends on, tuners apart."""
HEAD_FIELDS = ("mlp_irreps", "mlp_kind", "mlp_activation", "vector_gate", "read_layers")
"""Fields that the shapes of heads depend on."""

RADIAL_CONSTANTS = frozenset(
    {"bessel", "gaussian", "agnesi", "soft", "covalent_radii"}
    | {"zbl_power", "zbl_screening", "zbl_weights", "zbl_factor"}
)
"""Keys of `radial_constants`."""


def variant_of(tuner: str, uncertainty: str) -> str:
    """The public name that says most about a model; what it leaves out has fields of its own."""
    given = {"tuner": tuner, "uncertainty": uncertainty}
    fitting = [name for name, deltas in VARIANTS.items() if deltas.items() <= given.items()]
    return max(fitting, key=lambda name: len(VARIANTS[name]))


class LossConfig(Config):
    """The loss of one output."""

    name: str
    """Name of a `torch.nn` regression loss (`MSELoss`, `HuberLoss`, ...) or of one of macekit's: `WeightedMSELoss`
    (per atom), `MaskedMSELoss`, `SerialBCEWithLogitsLoss`, `MultiTaskLoss` (a loss per column); of vectors also
    `ConditionalHuberLoss`, `ConditionalMSELoss` and `L2NormLoss`."""
    weight: NonNegativeFloat = 1.0
    """Factor of this loss in the total."""
    weight_schedule: dict[PositiveInt, NonNegativeFloat] = Field(default_factory=dict)
    """Other factors from given epochs on, counted from 1, such as {301: 1000.0} for a second stage in which energies
    count more. The best epoch is sought anew from every change on."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the loss, and `per_atom: true` to compare values of structures per atom."""

    def weight_at(self, epoch: int) -> float:
        """The factor in an epoch, counted from 1."""
        started = [start for start in self.weight_schedule if start <= epoch]
        return self.weight_schedule[max(started)] if started else self.weight

    @property
    def is_ever_counted(self) -> bool:
        """Whether the factor is above zero at some time."""
        return self.weight > 0 or any(value > 0 for value in self.weight_schedule.values())


class ModelConfig(Config):
    """Choices of architecture and of what is learned. Facts about the data are not here."""

    name: ModelName = "mace_model"
    """Which of the four models; sets `tuner` and `uncertainty` where these are not given."""
    num_node_feats: PositiveInt | Automatic = "auto"
    """Number of node features; equals the initial node-feature dimension (sum of the one-hot encoded features:
    elements first). "auto": counted in the training data."""
    num_edge_feats: Annotated[int, Field(ge=0)] | Automatic = "auto"
    """Number of edge features; equals the initial edge-feature dimension (sum of the one-hot encoded features).
    "auto": counted in the training data."""
    num_bessel: PositiveInt = 8
    """Number of Bessel functions."""
    num_polynomial_cutoff: PositiveInt = 5
    """Power p of the polynomial envelope that takes the radial functions to zero at the cutoff."""
    max_ell: Annotated[int, Field(ge=0, le=6)] = 3
    """Highest SO(3) degree of the spherical harmonics used in the interactions."""
    num_interactions: PositiveInt = 2
    """Number of interaction layers."""
    hidden_irreps: str = "128x0e + 128x1o"
    """Hidden irreps of the model: one multiplicity for all, natural parities, 0e included."""
    mlp_irreps: str = "16x0e"
    """Irreps of the output MLP: scalars."""
    avg_num_neighbours: Annotated[float, Field(gt=0)] | Automatic | None = "auto"
    """Average number of neighbours in the data set, by which messages are divided. None: 1."""
    correlation: Annotated[int, Field(ge=1, le=4)] = 3
    """Highest correlation order of the symmetric contraction."""
    scaling_mean: float | Automatic = "auto"
    """Mean of (molecule energy − self energy) / number of atoms, eV. "auto": measured. An isolated atom has its self
    energy plus this, so give 0 where the limit of separated atoms must be exact."""
    scaling_std: Annotated[float, Field(gt=0)] | Literal["auto", "std_energy", "rms_forces"] = "auto"
    """Standard deviation of (molecule energy − self energy), eV ("std_energy" measures it), or the RMS force
    component ("rms_forces"). "auto": "rms_forces" where forces are trained, otherwise "std_energy"."""
    compute_forces: bool = False
    """Forces as the negative gradient of the energy, returned as `y_node_vector`."""
    y_node_scalars_loss_config: LossConfig | None = None
    """Loss of the node scalars; None: they contribute none."""
    y_node_vector_loss_config: LossConfig | None = None
    """Loss of the node vector (the forces with `compute_forces`)."""
    y_graph_scalars_loss_config: LossConfig | None = None
    """Loss of the graph scalars. With Gaussian uncertainty always `GaussianNLLLoss`."""
    y_graph_vector_loss_config: LossConfig | None = None
    """Loss of the graph vector."""
    stress_loss_config: LossConfig | None = None
    """Loss of the stress (extension)."""
    radial_mlp: list[PositiveInt] = Field(default_factory=lambda: [64, 64, 64])
    """Widths of the hidden layers of the radial MLP (extension)."""
    interaction_first: Interaction = "agnostic"
    """Kind of the first interaction (extension). Kinds with a residual carry the features of the element on, so that
    an isolated atom then has more than its self energy; kinds with a density divide messages by a learned density of
    neighbours instead of their average number."""
    interaction: Interaction = "agnostic_residual"
    """Kind of the other interactions (extension)."""
    edge_irreps: str | None = None
    """Irreps of what neighbours send; None: the hidden irreps (extension)."""
    edge_irreps_first: bool = False
    """Whether `edge_irreps` hold in the first layer too (extension)."""
    radial_basis: Literal["bessel", "gaussian", "chebyshev"] = "bessel"
    """Radial basis of `num_bessel` functions (extension)."""
    distance_transform: Literal["none", "agnesi", "soft"] = "none"
    """Transform of the distance by the covalent radii of both elements, before the basis (extension)."""
    envelope: Literal["basis", "messages"] = "basis"
    """What the polynomial envelope multiplies: the radial basis, or what the radial MLP makes of it (extension)."""
    pair_repulsion: Literal["none", "zbl"] = "none"
    """Repulsion at short distance that is added to the energy (extension)."""
    radial_constants: dict[str, list[float]] = Field(default_factory=dict)
    """Constants of basis, transform and repulsion where they are not the usual ones, as in imported models: bessel,
    gaussian (centres, then their width), agnesi, soft, covalent_radii, zbl_power, zbl_screening, zbl_weights,
    zbl_factor (extension)."""
    couplings: Literal["exact", "float32"] = "exact"
    """Imported models only: whether the coupling coefficients of the convolutions are those of a float32 file
    (extension)."""
    coupling_rounding: list[Annotated[int, Field(ge=0)]] = Field(default_factory=list)
    """Imported models only: number of functions in each layer that hold the rounding of the couplings of a float32
    file, so that predictions are those of the file to all digits (extension)."""
    coupling_terms: Literal["symmetric", "all"] = "symmetric"
    """Imported models only: whether these functions have the terms alone that exact couplings have, or also those that
    cancel in them, which the rounding of a float32 file leaves (extension)."""
    mlp_kind: Literal["plain", "biased"] = "plain"
    """Output MLP with one hidden layer, or with two and biases (extension)."""
    mlp_activation: Literal["silu", "tanh", "abs", "none"] = "silu"
    """Activation of the output MLP (extension)."""
    vector_gate: Literal["sigmoid", "silu", "tanh", "abs", "none"] = "sigmoid"
    """Function of the scalars that multiply the vectors in the read-out of the last layer (extension)."""
    read_layers: Literal["all", "last"] = "all"
    """Which layers the scalar outputs read (extension)."""
    node_normalisation: PositiveInt | None = None
    """Imported models only: number of node features by whose square root maps by element are divided; null: that of
    the model. A model with some of the elements of another keeps that of the other, so that it computes the same to the
    last digit (extension)."""
    compatibility: Literal["none", "physicsml"] = "none"
    """Imported models only, which cannot be trained: "physicsml" keeps what PhysicsML does otherwise. Its vector
    outputs read the layers before the last linearly and add the mean to every component; its standard deviation is
    |Σ s|/N; its forces belong to the sum of all graph scalars; bond features reach to the cutoff; its adapters have
    batch normalisations, with stored statistics (extension)."""
    scalar_bias: bool = False
    """Whether every layer adds a constant to each of its scalar channels, which is what merging an SSF leaves
    (extension)."""
    tuner: Tuner = "none"
    """Parameter-efficient fine-tuning inside the backbone (extension; set by `name` where it says so)."""
    uncertainty: Uncertainty = "none"
    """Whether the graph scalars come with a variance (extension; set by `name` where it says so)."""
    ratio_adapter_down: PositiveInt = 10
    """Adapters only: ratio of the down layer; a bottleneck never has fewer than one channel."""
    initial_s: float = 0.01
    """Adapters only: start value of the s parameters that combine adapters and backbone."""
    lora_rank: PositiveInt = 8
    """LoRA only: rank of the update of every linear map."""

    @model_validator(mode="before")
    @classmethod
    def _apply_name(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        name = values.get("name", "mace_model")
        deltas = VARIANTS.get(name, {}) if isinstance(name, str) else {}
        for field, value in deltas.items():
            if values.get(field, value) != value:
                raise ValueError(
                    f"{field}={values[field]!r} contradicts name={values['name']!r}, which means {value!r}"
                )
        return {**values, **deltas}

    @field_validator("radial_constants")
    @classmethod
    def _known_constants(cls, value: dict[str, list[float]]) -> dict[str, list[float]]:
        if unknown := sorted(value.keys() - RADIAL_CONSTANTS):
            raise ValueError(f"unknown {', '.join(unknown)}; known: {', '.join(sorted(RADIAL_CONSTANTS))}")
        return value

    @model_validator(mode="after")
    def _one_rounding_per_layer(self) -> Self:
        if len(self.coupling_rounding) not in (0, self.num_interactions):
            raise ValueError(
                f"coupling_rounding: {len(self.coupling_rounding)} values given, expected one for each of the "
                f"{self.num_interactions} interactions"
            )
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        loss = self.y_graph_scalars_loss_config
        if self.uncertainty == "gaussian" and loss is not None and loss.name != "GaussianNLLLoss":
            raise ValueError(
                f"y_graph_scalars_loss_config: {loss.name} given, but mean and variance are always trained with "
                "GaussianNLLLoss; leave it out, or give GaussianNLLLoss to set its weight"
            )
        if self.uncertainty == "none" and loss is not None and loss.name == "GaussianNLLLoss":
            raise ValueError(
                "y_graph_scalars_loss_config: GaussianNLLLoss needs a variance; use name: mean_var_mace_model"
            )
        return self

    @property
    def graph_scalars_loss(self) -> LossConfig | None:
        """The loss of the graph scalars that training uses, `GaussianNLLLoss` being implied by a variance."""
        if self.uncertainty == "gaussian" and self.y_graph_scalars_loss_config is None:
            return LossConfig(name="GaussianNLLLoss")
        return self.y_graph_scalars_loss_config
