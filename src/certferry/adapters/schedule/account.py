"""Whose crontab, and whose units."""

from __future__ import annotations

import os
import pwd


def user_name() -> str:
    """Name whoever runs this; by number where the system has no name, as in containers."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
