"""The local cache: files by hash, the books beside them, a quota; other kinds of caches beside it."""
