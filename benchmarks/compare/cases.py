"""What is compared: models, and work for them, with the bars the project has set itself."""

from __future__ import annotations

from typing import Literal, NamedTuple

Work = Literal["evaluate", "train"]
CUTOFFS = {"water": 5.0, "ethanol": 5.0, "3BPA": 5.0, "AlN": 6.0, "Si": 5.0}
ELEMENTS = {"water": (1, 8), "ethanol": (1, 6, 8), "3BPA": (1, 6, 7, 8), "AlN": (7, 13), "Si": (14,)}
HIDDEN = {
    "A": "128x0e + 128x1o",
    "B": "128x0e",
    "L2": "128x0e + 128x1o + 128x2e",
    "small": "32x0e + 32x1o",
}
"""Hidden irreps; all with max_ell 3, correlation 3, 2 layers, 8 Bessel functions, radial MLP [64, 64, 64]."""
FOUNDATION = "mp0"
"""A model of a file: MACE-MP-0 small."""


class Case(NamedTuple):
    """A piece of work for every engine, on the same weights."""

    model: str
    """Key of `HIDDEN`, or `mp0`."""
    structures: str
    """As in `structures.named`."""
    work: Work = "evaluate"
    dtype: str = "float32"
    threads: int = 1
    bar_mace_torch: float | None = None
    """How many times faster than mace-torch it should be."""
    bar_symmetrix: float | None = None
    """The same for symmetrix-xl, which cannot train."""

    @property
    def system(self) -> str:
        """Kind of structure: water, ethanol, 3BPA, AlN or Si."""
        return self.structures.partition("-")[0]

    @property
    def name(self) -> str:
        """Unique and readable."""
        return f"{self.model} {self.structures} {self.work} {self.dtype} {self.threads}"

    def title(self) -> str:
        """For tables."""
        model = "MACE-MP-0 small" if self.model == FOUNDATION else HIDDEN[self.model]
        kind, _, size = self.structures.partition("-")
        what = f"{size} × {kind}" if kind in ("ethanol", "3BPA") and size else f"{kind} {size}".strip()
        work = "energy + forces" if self.work == "evaluate" else "training step"
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{what}, {model}, {work}, {self.dtype}, {threads}"


def model_name(case: Case) -> str:
    """Name of the case's model file; models differ with the elements they know."""
    return case.model if case.model == FOUNDATION else f"{case.model}-{case.system}"


CASES = (
    Case("A", "water-192", bar_mace_torch=100, bar_symmetrix=6),
    Case("A", "AlN-108", bar_mace_torch=110, bar_symmetrix=6),
    Case("A", "AlN-256", bar_symmetrix=6),
    Case("B", "water-192", bar_mace_torch=70, bar_symmetrix=5),
    Case("B", "AlN-108", bar_mace_torch=70, bar_symmetrix=5),
    Case(FOUNDATION, "Si-216", bar_mace_torch=70, bar_symmetrix=5),
    Case(FOUNDATION, "water-192", bar_mace_torch=70, bar_symmetrix=5),
    Case("A", "ethanol", bar_mace_torch=40),
    Case("L2", "water-192", bar_mace_torch=60),
    Case("A", "ethanol-10", "train", bar_mace_torch=30),
    Case("A", "3BPA-10", "train", bar_mace_torch=30),
    Case("A", "water-192", dtype="float64", bar_mace_torch=80, bar_symmetrix=4),
    Case("A", "AlN-108", dtype="float64", bar_mace_torch=80, bar_symmetrix=4),
    Case("A", "ethanol", dtype="float64", bar_mace_torch=25),
    Case("A", "ethanol-10", "train", dtype="float64", bar_mace_torch=25),
    Case("A", "3BPA-10", "train", dtype="float64", bar_mace_torch=25),
    Case("A", "water-192", threads=2),
    Case("A", "AlN-256", threads=2),
    Case("A", "ethanol-40", "train", threads=1),
    Case("A", "ethanol-40", "train", threads=2),
)
"""The whole comparison."""
QUICK = tuple(
    Case("small", structures, work) for structures, work in (("ethanol", "evaluate"), ("ethanol-10", "train"))
)
"""A minute's worth, to see that everything runs."""
SCALING = (Case("A", "water-192", threads=2), Case("A", "water-100000", threads=2))
"""Cost per atom of a large box, for macekit alone."""
