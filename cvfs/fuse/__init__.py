"""The kernel's FUSE protocol for a read-only file system, spoken without libfuse."""
