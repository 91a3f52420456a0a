"""A command in namespaces of its own, with repositories mounted that nobody else sees; needs no rights and leaves nothing.

Three kinds of processes. The one that the user started stays outside, attends to the others and ends as the command ends.
One goes inside, mounts, and becomes the command. A client for each repository serves it from outside, by the descriptor that
came from inside: so it sees the files of the user as they are, and lives as long as anybody is inside, which the kernel knows.
"""
