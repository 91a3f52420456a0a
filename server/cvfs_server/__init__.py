"""Everything that writes a repository."""
