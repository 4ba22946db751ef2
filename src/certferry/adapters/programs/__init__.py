"""Programs of the operator's: `run` runs one, `dns` has one write records, `channel` has one carry
messages.
"""
