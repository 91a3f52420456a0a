"""Catalogs: the SQLite files that hold a repository's metadata."""
