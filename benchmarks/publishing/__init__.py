"""Contests of publishers beside ordinary tools: what users of `cvfs-server` wait for."""
