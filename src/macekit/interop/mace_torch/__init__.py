"""Models of mace-torch: whole-module pickles, read as data and converted exactly. Nothing in them is executed."""
