"""The commands: cvfs, cvfs-server, mount.cvfs."""
