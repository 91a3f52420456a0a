"""The programs that do the work of workloads, each a process of its own that says how long it took; none sets anything up."""
