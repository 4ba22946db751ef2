"""The trial of guesses about real services: with real keys, and by reading calls alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from certferry.adapters.dnspod import dns as dnspod
from certferry.adapters.dnspod import trial as dnspod_trial
from certferry.adapters.dnspod.client import DnspodCalls
from certferry.adapters.dnspod.trial import DnspodReader
from certferry.adapters.http.client import CountedPace, HttpClient, Pacer
from certferry.adapters.qiniu import target as qiniu
from certferry.adapters.qiniu import trial as qiniu_trial
from certferry.adapters.qiniu.trial_calls import TIMEOUTS, QiniuReader
from certferry.adapters.qiniu.wire import Keys
from certferry.core.secret import Secret
from certferry.core.trial import Trial
from certferry.ports.progress import Pause
from certferry.wiring.clock import now as real_time


def try_qiniu(
    access_key: Secret,
    secret_key: Secret,
    addresses: Mapping[str, Any],
    *,
    pause: Pause,
    now: Callable[[], datetime] = real_time,
) -> Trial:
    """Try the guesses about Qiniu. `addresses` are those of the account's settings that are others
    than the usual ones.
    """
    hosts = qiniu.Settings(access_key, secret_key, **addresses).hosts
    reader = QiniuReader(Keys(access_key, secret_key), hosts, pause=pause, now=now)
    judgements = qiniu_trial.try_guesses(reader)
    return Trial("Qiniu", reader.requests, reader.let_in, judgements)


def try_dnspod(
    token_id: Secret,
    token: Secret,
    addresses: Mapping[str, Any],
    *,
    pause: Pause,
    now: Callable[[], datetime] = real_time,
) -> Trial:
    """Try the guesses about DNSPod; see `try_qiniu`."""
    api = dnspod.Settings(token_id, token, **addresses).api
    pace = CountedPace(Pacer(dnspod.REQUESTS_PER_SECOND, pause=pause))
    http = HttpClient(pace=pace, pause=pause, attempts=1, timeouts=TIMEOUTS)
    agent = dnspod.user_agent(dnspod.NO_CONTACT)
    calls = DnspodCalls(
        api=api,
        token_id=token_id.reveal().strip(),
        token=Secret(token.reveal().strip()),
        user_agent=agent,
        http=http,
        pause=pause,
        now=now,
    )
    reader = DnspodReader(calls, http, api=api, headers={"User-Agent": agent})
    judgements = dnspod_trial.try_guesses(reader)
    return Trial("DNSPod", pace.requests, reader.let_in, judgements)
