"""The console: a view of every certificate, and the API. The console makes the scheduled runs
(unless `--no-schedule` is given) and the runs that operators start, and edits no settings. Only
`certferry serve` and `certferry console health` import this room, because the libraries for it are
an extra.
"""
