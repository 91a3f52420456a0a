"""Objects by hash: small stores and the wrappers that turn them into a client's data plane."""
