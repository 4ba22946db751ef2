"""Join adapters to the ports: the only room that knows which adapters exist.

What is heavy is loaded when it is first needed: a run that finds nothing to do never loads the
ACME library.
"""
