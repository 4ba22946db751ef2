"""Receivers of a whole certificate: files in a directory, or a program."""
