"""Commands for which the permissions of files count, even if root runs the tests."""

from __future__ import annotations

import os

AS_ANYBODY = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
"""Takes root's right to read every file from a command, so that a file's mode counts."""


def bound_by_permissions() -> tuple[str, ...]:
    """Return a prefix for a command, so that permissions count."""
    return AS_ANYBODY if os.geteuid() == 0 else ()
