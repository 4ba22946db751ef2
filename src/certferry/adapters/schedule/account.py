"""The user whose crontab and whose units these are."""

from __future__ import annotations

import os
import pwd


def user_name() -> str:
    """Name the user; by number where the system has no name, as in containers."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
