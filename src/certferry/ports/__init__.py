"""The ports: one contract for each service that certferry needs from outside."""
