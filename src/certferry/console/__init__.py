"""The console: a window on every certificate, and the API. It starts what the schedule would start,
and edits nothing. Only `certferry serve` imports it: its libraries are an extra.
"""
