"""Adapters to the outside world: wire formats, signatures, and errors as the ports have them."""
