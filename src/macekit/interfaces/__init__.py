"""Ways to use a model: from Python (`trained`, `runs`) and in ASE (`ase`)."""
