"""The C++ extension module; `kernels.cpu` is its only caller."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

class ConvolutionTable:
    def __init__(
        self,
        max_ell: int,
        dim_in: int,
        dim_out: int,
        l_in: Sequence[int],
        l_sh: Sequence[int],
        first_input: Sequence[int],
        harmonic: Sequence[int],
        row: Sequence[int],
        column: Sequence[int],
        value: Sequence[float],
    ) -> None: ...

class ContractionTable:
    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        rows: Sequence[tuple[int, int, int]],
        columns: Sequence[tuple[int, int]],
        entries: Sequence[tuple[int, int, int]],
    ) -> None: ...

class Run:
    def __init__(self, instruction_set: str, double_precision: bool, threads: int) -> None: ...

class Knots:
    def __init__(self, first: float, step: float, rows: int) -> None: ...

class HarmonicTable:
    def __init__(self, max_ell: int, terms: Sequence[tuple[int, int, int]], factors: Sequence[float]) -> None: ...

class RadialPlan:
    def __init__(self, widths: Sequence[int], factors: Sequence[float]) -> None: ...

class Effort:
    def __init__(self, threads: int, per_thread: float, of_term: Sequence[float], of_edge: float) -> None: ...

class LayerSweeps:
    def values(self, given: Sequence[int], matrices: Sequence[Sequence[int]], out: int) -> None: ...
    def geometry(self, grad: int, results: Sequence[int]) -> None: ...
    def tangents(self, given: Sequence[int], out: int) -> None: ...
    def weights(self, grad: int, results: Sequence[int], gradients: Sequence[Sequence[int]]) -> None: ...

def layer_sweeps(
    convolution: ConvolutionTable,
    contraction: ContractionTable,
    up: MatrixPlan,
    linear: MatrixPlan,
    mix: MatrixPlan | None,
    product: MatrixPlan,
    residual: MatrixPlan | None,
    run: Run,
    effort: Effort,
    sizes: Sequence[int],
    knots: Knots,
    sender: int,
    receiver: int,
    species: int,
) -> LayerSweeps: ...

class Readouts:
    def __init__(
        self,
        run: Run,
        norm: float,
        sizes: Sequence[int],
        widths: Sequence[int],
        features: Sequence[int],
        matrices: Sequence[int],
    ) -> None: ...
    def values(self, z: int, out: int) -> None: ...
    def geometry(self, grad: int, to_features: Sequence[int]) -> None: ...
    def tangents(self, features: Sequence[int], d_z: int, out: int) -> None: ...
    def weights(self, grad: int, to_features: Sequence[int], gradients: Sequence[int]) -> None: ...

def instruction_sets() -> list[str]: ...
def edge_harmonics(
    table: HarmonicTable,
    run: Run,
    which: int,
    edges: int,
    vectors: int,
    shortest: float,
    addresses: tuple[int, int, int],
) -> None: ...
def radial_table(
    plan: RadialPlan,
    run: Run,
    knots: int,
    addresses: Sequence[int],
    matrices: Sequence[int],
    inner: Sequence[int],
    table: int,
    gradients: Sequence[int],
) -> None: ...
def edge_convolution(
    table: ConvolutionTable,
    run: Run,
    which: int,
    atoms: int,
    edges: int,
    channels: int,
    sender: int,
    receiver: int,
    addresses: Sequence[int],
) -> None: ...
def symmetric_contraction(
    table: ContractionTable,
    run: Run,
    which: int,
    atoms: int,
    num_species: int,
    channels: int,
    species: int,
    addresses: Sequence[int],
) -> None: ...
def table_convolution(
    table: ConvolutionTable,
    run: Run,
    which: int,
    atoms: int,
    edges: int,
    channels: int,
    knots: Knots,
    sender: int,
    receiver: int,
    addresses: Sequence[int],
) -> None: ...
def lanes(run: Run) -> int: ...

class MatrixPlan:
    def __init__(
        self, width_in: int, width_out: int, blocks: Sequence[tuple[int, ...]], scales: Sequence[float]
    ) -> None: ...

def matrix_products(
    plan: MatrixPlan, run: Run, matrices: Sequence[int], source: int, target: int, transposed: bool
) -> None: ...
def matrix_chains(
    run: Run, backward: bool, sizes: Sequence[tuple[int, ...]], addresses: Sequence[Sequence[int]]
) -> None: ...
def matrix_gradients(
    plan: MatrixPlan, run: Run, matrices: Sequence[int], x: Sequence[int], y: Sequence[int]
) -> None: ...

class SortedSystem: ...

class Engine:
    def piece_degree(self) -> int: ...
    def add_layer(
        self,
        width: int,
        degrees: Sequence[int],
        max_ell: int,
        num_paths: int,
        dim_out: int,
        dim_basis: int,
        num_terms: int,
        polynomials: Sequence[Sequence[int]],
        gradient: Sequence[Sequence[int]],
        table: NDArray[Any],
        row: Sequence[int],
        product: Sequence[int],
        value: Sequence[float],
        constant: NDArray[Any],
        density: NDArray[Any],
        coefficients: NDArray[Any],
        /,
    ) -> None: ...
    def add_mixing(self, layer: int, degree: int, first_row: int, paths: int, matrices: NDArray[Any], /) -> None: ...
    def add_source(
        self, layer: int, source: int, degree: int, row_from: int, row_to: int, matrices: NDArray[Any], /
    ) -> None: ...
    def set_moments(self, hidden: int, table: NDArray[Any], matrices: Sequence[NDArray[Any]], /) -> None: ...
    def set_readout(
        self, hidden: int, outputs: int, activation: int, norm: float, /, *arrays: NDArray[Any]
    ) -> None: ...
    def add_reading(self, layer: int, matrices: NDArray[Any], /) -> None: ...
    def set_repulsion(self, power: int, column: int, /, *arrays: NDArray[Any]) -> None: ...
    def sort(
        self,
        element: NDArray[Any],
        graph: NDArray[Any],
        graphs: int,
        edge_index: NDArray[Any],
        shifts: NDArray[Any],
        periodic: bool,
        /,
    ) -> SortedSystem: ...
    def evaluate(
        self,
        system: SortedSystem,
        outputs: int,
        positions: NDArray[Any],
        cell: NDArray[Any],
        energies: NDArray[Any],
        forces: NDArray[Any],
        virial: NDArray[Any],
        seconds: NDArray[Any],
        first_layer: int,
        threads: int,
        /,
    ) -> float: ...

def make_engine(
    instruction_set: str,
    double_precision: bool,
    max_ell: int,
    channels: int,
    num_elements: int,
    knots: int,
    cutoff: float,
    pair: Sequence[int],
    rows: int,
    row: Sequence[int],
    column: Sequence[int],
    value: Sequence[float],
    /,
) -> Engine: ...
