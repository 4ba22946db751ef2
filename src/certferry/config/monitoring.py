"""The tables `[heartbeat]` and `[metrics]`: where monitors look."""

from __future__ import annotations

from pathlib import Path

from certferry.config.check import secret_reference
from certferry.config.files import Paths
from certferry.config.model import Monitoring
from certferry.config.table import Table
from certferry.config.values import word
from certferry.errors import ConfigError
from certferry.text import Text

_ENDING = ".prom"


def read_monitoring(root: Table, paths: Paths) -> Monitoring:
    """Read `[heartbeat]` and `[metrics]`."""
    heartbeat, metrics = root.table("heartbeat"), root.table("metrics")
    found = Monitoring(
        heartbeat.take("url", secret_reference(heartbeat), None),
        metrics.take("file", lambda value: _metrics_file(value, paths), None),
    )
    for name, table, setting in (("url", heartbeat, "heartbeat"), ("file", metrics, "metrics")):
        if setting in root and not table.written:
            table.report(name, Text("missing"))
        table.done()
    return found


def _metrics_file(value: object, paths: Paths) -> Path:
    written = word(value)
    if not written.endswith(_ENDING):
        # node_exporter's textfile collector reads no other (its README, "Textfile Collector").
        raise ConfigError(Text("must end with .prom: node_exporter reads no other file"))
    return paths.resolve(written)
