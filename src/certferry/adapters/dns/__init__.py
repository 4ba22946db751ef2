"""Shared by DNS services: write, read back and remove a record; calls answered in JSON."""
