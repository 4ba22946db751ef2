"""The order of things: observe, plan, apply, verify."""
