"""Outputs of a run for monitors: a heartbeat and a file of metrics."""
