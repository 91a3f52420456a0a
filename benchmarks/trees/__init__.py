"""The trees that are read and published, made once and kept in the work directory."""
