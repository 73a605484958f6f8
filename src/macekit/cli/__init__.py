"""The command line: `macekit train | evaluate | predict | demo`."""

from macekit.cli.app import app, main

__all__ = ["app", "main"]
