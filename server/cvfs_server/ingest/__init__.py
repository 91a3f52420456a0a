"""Contents of files into the store, in order and in parallel."""
