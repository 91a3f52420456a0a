"""cvfs: software delivery for science, wire-compatible with CernVM-FS."""

__version__ = "0.1.0"
