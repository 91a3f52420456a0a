"""The work that is measured: each is a command that reads a tree, or something that a publisher does."""
