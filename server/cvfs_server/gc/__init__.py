"""Garbage collection beside publishers and readers: mark, condemn, wait, sweep."""
