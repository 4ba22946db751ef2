"""Join adapters to the ports: the only room with a list of the adapters.

Heavy libraries are loaded at first use: a run with nothing to do never loads the ACME library.
"""
