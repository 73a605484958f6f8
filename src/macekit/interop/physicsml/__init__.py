"""Model directories of PhysicsML, read without executing anything in them."""
