"""The Linux kernel's mounts and namespaces, by way of the C library and /proc; knows neither FUSE nor repositories."""
