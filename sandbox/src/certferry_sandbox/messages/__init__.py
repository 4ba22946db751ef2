"""Stand-ins of the services that bring messages: one file = one service; `service` is what they
share.
"""
