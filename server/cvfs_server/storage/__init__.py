"""Where a repository's files live: places a publisher can write to."""
