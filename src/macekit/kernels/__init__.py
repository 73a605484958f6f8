"""The hot operations: structure tables, the reference implementation, and the operators that dispatch to it."""
