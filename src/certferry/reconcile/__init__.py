"""Runs: observe, plan, apply, verify."""
