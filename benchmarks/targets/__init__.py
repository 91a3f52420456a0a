"""Where a tree is read from: a local directory, mounts of cvfs and of others."""
