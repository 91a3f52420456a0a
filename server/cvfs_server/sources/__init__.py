"""What a publish brings: trees, and other descriptions of changes, as ordered streams of listings."""
