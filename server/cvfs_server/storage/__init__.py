"""Places that hold a published repository."""
