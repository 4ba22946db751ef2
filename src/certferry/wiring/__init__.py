"""Join adapters to the ports. Only this room knows which adapters exist.

Heavy libraries are loaded at first use: a run with nothing to do never loads the ACME library.
"""
