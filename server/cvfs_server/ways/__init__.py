"""Ways to publish that need no transaction."""
