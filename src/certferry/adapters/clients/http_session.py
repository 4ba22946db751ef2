"""A session of requests that sends what it is told, to the one address that it is told."""

from __future__ import annotations

from datetime import timedelta
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests

from certferry import __version__
from certferry.adapters.clients.http_bounds import LONGEST_ANSWER, BoundedAdapter

POOL_SIZE = 16  # connections kept per host: two for each lineage that is worked on by default


class PlainSession(requests.Session):
    """Follows no redirect, keeps no cookie, reads no ~/.netrc. Proxies and certificate bundles that
    the environment names are used. `whole` is the time for one exchange, `longest` the bytes of an
    answer.
    """

    def __init__(self, whole: timedelta, longest: int = LONGEST_ANSWER) -> None:
        super().__init__()
        self.headers.clear()
        self.headers["User-Agent"] = f"certferry/{__version__}"
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.auth = _as_signed
        for scheme in ("http://", "https://"):
            self.mount(
                scheme, BoundedAdapter(whole, longest, pool_maxsize=POOL_SIZE, max_retries=0)
            )

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request. Raises requests' exceptions, and urllib3's for what is no address."""
        kwargs["allow_redirects"] = False
        return super().request(*args, **kwargs)


def _as_signed(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Leave the request alone: without this, a line in ~/.netrc would replace Authorization."""
    return request
