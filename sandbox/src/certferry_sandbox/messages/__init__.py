"""Stand-ins of services that deliver messages, each in a module of its own; `service` holds the
shared parts.
"""
