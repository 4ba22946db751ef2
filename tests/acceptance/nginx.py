"""A real nginx that reads the files of a delivery, started and reloaded by certferry's programs."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from tests.acceptance.site import script
from tests.support.programs import program_path

CONFIGURATION = """\
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 1;
events {{ worker_connections 64; }}
http {{
  access_log off;
  include {folder}/extra.conf;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {ssl}/fullchain.pem;
    ssl_certificate_key {ssl}/privkey.pem;
  }}
}}
"""

RELOAD = "if test -s nginx.pid; then {nginx} -s reload; else {nginx}; fi"


class Nginx:
    """An nginx with a configuration of its own; `reload` and `test` are programs beside it."""

    def __init__(self, folder: Path, ssl: Path, port: int) -> None:
        self._folder = folder
        self._program = f"{program_path('nginx')} -e {folder}/error.log -c {folder}/nginx.conf"
        text = CONFIGURATION.format(folder=folder, ssl=ssl, port=port)
        (folder / "nginx.conf").write_text(text)
        self.extra = folder / "extra.conf"
        self.extra.write_text("")
        script(folder / "test", f"{self._program} -t")
        self.reload()

    def reload(self) -> None:
        """Let `reload` start nginx, or reload a running nginx."""
        script(self._folder / "reload", RELOAD.format(nginx=self._program))

    def reload_nothing(self) -> None:
        """Let `reload` end with 0 without a signal to nginx."""
        script(self._folder / "reload", "true")

    def break_with(self, line: str) -> None:
        """Add a line to the configuration."""
        self.extra.write_text(f"{line}\n")

    def stop(self) -> None:
        """Stop a running nginx, and wait for the end."""
        pid_file = self._folder / "nginx.pid"
        if not pid_file.exists():
            return
        os.kill(int(pid_file.read_text()), signal.SIGTERM)
        deadline = time.monotonic() + 10
        while pid_file.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
