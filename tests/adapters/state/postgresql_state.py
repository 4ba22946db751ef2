"""A history entry for states in PostgreSQL, and the error of a refused opening."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from certferry.core.observed.records import HistoryEntry
from certferry.errors import CertferryError, ConfigError

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
ENTRY = HistoryEntry(NOW, "img", "issued", "root@host", {"detail": "证书"})


def refused(
    open_it: Callable[[], object], kind: type[CertferryError] = ConfigError
) -> CertferryError:
    """Return the error that opening raises."""
    with pytest.raises(kind) as error:
        open_it()
    return error.value
