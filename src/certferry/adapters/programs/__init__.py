"""Operators' own programs: `run` starts a program, for DNS (`dns`) or messages (`channel`)."""
