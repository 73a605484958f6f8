"""Virtual environments of the peers, each made once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PEERS = ("torch==2.13.0", "mace-torch==0.3.16", "symmetrix-xl==0.1.1")
"""Both in one environment: symmetrix-xl reads `.model` files with the help of mace-torch."""
VARIABLES = {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
"""For mace-torch's e3nn 0.4.4, which loads its constants from a pickle."""


def peers_python(folder: Path) -> Path:
    """The interpreter of the peers' environment, made where it is not there.

    torch comes first and alone, so that a build for CPUs is kept where the package index offers one.
    """
    python = folder / "peers" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder / "peers")], check=True)
        for packages in ([PEERS[0]], list(PEERS[1:])):
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
    return python
