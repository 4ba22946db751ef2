"""A stand-in that listens by one HTTP service."""

from __future__ import annotations

from typing import Self

from certferry_sandbox.faults import Faults
from certferry_sandbox.httpd import HttpService


class HttpStandIn:
    """Begins and ends with its service, which `http` is."""

    http: HttpService

    def start(self) -> Self:
        """Listen."""
        self.http.start()
        return self

    def stop(self) -> None:
        """Stop listening; a second call does nothing."""
        self.http.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """In place of the real service's address."""
        return self.http.url

    @property
    def faults(self) -> Faults:
        """What goes wrong on the wire."""
        return self.http.faults
