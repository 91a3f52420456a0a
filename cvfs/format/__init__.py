"""The repository format as pure functions: bytes to values and back; no file, clock, thread or socket."""
