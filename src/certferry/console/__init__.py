"""The console: a view of every certificate, and the API. The console starts the runs that the
schedule would start, and edits no settings. Only `certferry serve` imports this room, because its
libraries are an extra.
"""
