"""The web console and the API. The console's process also carries out the runs that operators start
there, and the scheduled runs (except with `--no-schedule`). The console never edits the settings.

The libraries for this package are an extra. So only the commands that need the console import the
package; `cli.serve.console_process` reports missing libraries.
"""
