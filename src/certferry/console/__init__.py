"""The console: a view of every certificate, and the API. The console starts the runs that the
schedule would start, and edits no settings. Only `certferry serve` and `certferry console health`
import this room, because the libraries for it are an extra.
"""
