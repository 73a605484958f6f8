"""symmetrix-xl: its ASE calculator, which reads `.model` files with the help of mace-torch and compiles for each."""

from __future__ import annotations

from importlib.metadata import version as version_of

from symmetrix import Symmetrix


def version() -> str:
    """Name and version."""
    return f"symmetrix-xl {version_of('symmetrix-xl')}"


def calculator(model: str, dtype: str) -> Symmetrix:
    """The calculator of a `.model` file with its default settings, a skin of 0.5 Å among them."""
    return Symmetrix(model, dtype=dtype)
