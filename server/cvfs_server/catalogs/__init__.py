"""Catalogs being written: rows, files, objects."""
