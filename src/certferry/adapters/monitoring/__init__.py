"""Where monitors look: a heartbeat that a run sends, a file of metrics that it leaves."""
