"""A published repository against every rule of the format."""
