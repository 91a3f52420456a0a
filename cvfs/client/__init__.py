"""Everything that reads a repository: cache, revision, volume, mount."""
