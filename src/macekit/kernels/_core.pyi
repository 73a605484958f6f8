"""The C++ extension module; `kernels.cpu` is its only caller."""

from collections.abc import Sequence

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
        num_terms: int,
        groups: Sequence[tuple[int, int, int, int]],
        entries: Sequence[tuple[int, int, int]],
    ) -> None: ...

class Run:
    def __init__(self, instruction_set: str, double_precision: bool, threads: int) -> None: ...

class Knots:
    def __init__(self, first: float, step: float, rows: int) -> None: ...

def instruction_sets() -> list[str]: ...
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
