"""Transactions on a writable overlay over the published tree: opened, published, aborted, repaired."""
