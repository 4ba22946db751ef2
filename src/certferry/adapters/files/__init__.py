"""Certificate files on this machine: a directory held open, files that are read, exported, or
handed to a program.
"""
