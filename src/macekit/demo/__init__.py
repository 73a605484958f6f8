"""Data and run file of `macekit demo`; README.md in this folder says how they were made."""
