"""Certificate files on this machine: read, written, exported, and given to a program."""
