"""Models of PhysicsML: directories read as data and converted exactly, and its configurations."""
