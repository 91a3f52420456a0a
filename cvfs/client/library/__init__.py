"""The public API: a repository opened by a program, its paths and files, and the same as a file system of fsspec."""
