"""Observe the certificates served by the addresses of a name."""
