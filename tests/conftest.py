"""Hooks and fixtures for every test: a clean environment, bounded property tests, and servers."""

from __future__ import annotations

import gc
import itertools
import logging
import os
import signal
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.adapters.acme.bench import Ca, running_ca
from tests.adapters.schedule.crontab_owner import CrontabOwner, crontab_owner
from tests.support import tiers
from tests.support.bind import Bind, running_bind
from tests.support.postgresql import Postgresql, running_postgresql
from tests.support.powerdns import PowerDns, running_powerdns
from tests.support.programs import program_path


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Exclude the collected tests from Python's garbage collection. The tests are about a million
    objects, and each full collection would spend half a second on them.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the thorough tests, except in `scripts/test --thorough` and in runs that name a
    test; start the longest tests first.
    """
    by_name = any("::" in word for word in config.args)
    if not (tiers.THOROUGH or by_name):
        left = [item for item in items if item.get_closest_marker("thorough") is not None]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item.get_closest_marker("thorough") is None]
    tiers.allow_long(items)
    if workers := getattr(config, "workerinput", {}).get("workercount"):
        items[:] = tiers.long_ones_first(items, workers)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Look for the program in a test's `needs` mark before the fixtures are made."""
    for mark in item.iter_markers("needs"):
        program_path(*mark.args)


# No deadline: tests run in parallel on a shared machine, so a slow example proves no mistake.
settings.register_profile(
    "ci", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", parent=settings.get_profile("ci"), max_examples=2000)
# The gate tries the same examples each time: otherwise a change could be refused for the mistake of
# an earlier change. The thorough tier seeks new examples.
settings.register_profile(
    "gate", parent=settings.get_profile("ci"), max_examples=10, derandomize=True
)
_USUAL = "ci" if tiers.THOROUGH else "gate"
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", _USUAL))

# A test run in the background ignores these signals. The programs that tests start would inherit
# that, and no test could stop a program. A handler is not inherited; the run still ignores both.
for _number in (signal.SIGHUP, signal.SIGINT):
    if signal.SIG_IGN == signal.getsignal(_number):
        signal.signal(_number, lambda *_: None)

# Tests read times in UTC, whatever the time zone of the machine.
os.environ["TZ"] = "UTC"
time.tzset()

# Variables that certferry, the vendors' own tools and the HTTP libraries read.
FOREIGN_PREFIXES = (
    "ACME",
    "ALICLOUD_",
    "ALI_",
    "CERTBOT_",
    "CERTFERRY_",
    "CF_",
    "CLOUDFLARE_",
    "DNSPOD_",
    "DP_",
    "LC_",
    "LEGO_",
    "LEXICON_",
    "QINIU_",
    "RENEWED_",
    "REQUESTS_",
    "RFC2136_",
    "SSL_CERT_",
    "TENCENT",
    "XDG_",
)
FOREIGN_NAMES = {
    "ALL_PROXY",
    "COLUMNS",
    "CREDENTIALS_DIRECTORY",
    "CURL_CA_BUNDLE",
    "FORCE_COLOR",
    "FTP_PROXY",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "LANGUAGE",
    "LINES",
    "NO_COLOR",
    "NO_PROXY",
    "PYTHONUNBUFFERED",
    "PYTHONWARNINGS",
}


@pytest.fixture(scope="session")
def new_home(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Return a function that makes an empty home. `mktemp` is slower: for each test it reads the
    names of all existing homes.
    """
    folder, numbers = tmp_path_factory.mktemp("homes"), itertools.count()

    def made() -> Path:
        home = folder / str(next(numbers))
        home.mkdir()
        return home

    return made


@pytest.fixture(autouse=True)
def clean_environment(
    new_home: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """Give each test an empty home and a clean environment, and yield the home."""
    for name in list(os.environ):
        if name.upper() in FOREIGN_NAMES or name.upper().startswith(FOREIGN_PREFIXES):
            monkeypatch.delenv(name)
    home = new_home()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.setenv("TERM", "xterm-256color")
    for variable, folder in {
        "XDG_CACHE_HOME": ".cache",
        "XDG_CONFIG_HOME": ".config",
        "XDG_DATA_HOME": ".local/share",
        "XDG_STATE_HOME": ".local/state",
    }.items():
        monkeypatch.setenv(variable, str(home / folder))
    yield home
    with suppress(OSError):  # the home has files of the test
        home.rmdir()


@pytest.fixture(autouse=True)
def undisturbed_logging() -> Iterator[None]:
    """Undo the logging setup of a command in this process, so that the next test reads exactly the
    expected records. The levels are fixed, because a fixture of several tests may have run a
    command before.
    """
    root, ours = logging.getLogger(), logging.getLogger("certferry")
    handlers = set(root.handlers)
    root.setLevel(logging.WARNING)
    ours.setLevel(logging.NOTSET)
    yield
    root.setLevel(logging.WARNING)
    ours.setLevel(logging.NOTSET)
    for handler in set(root.handlers) - handlers:
        if type(handler).__module__.startswith("certferry."):
            root.removeHandler(handler)
            handler.close()


@pytest.fixture(scope="session")
def ca() -> Iterator[Ca]:
    """A CA that accepts every good nonce, shared by the tests of a worker."""
    with running_ca(nonce_reject=0) as ca:
        yield ca


@pytest.fixture(scope="session")
def one_bind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bind]:
    """A real BIND, shared by the tests of a worker."""
    with running_bind(tmp_path_factory.mktemp("bind")) as bind:
        yield bind


@pytest.fixture
def bind(one_bind: Bind) -> Bind:
    """The real BIND, without the records of earlier tests."""
    one_bind.clear()
    return one_bind


@pytest.fixture(scope="session")
def one_powerdns(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PowerDns]:
    """A real PowerDNS, shared by the tests of a worker."""
    with running_powerdns(tmp_path_factory.mktemp("powerdns")) as server:
        yield server


@pytest.fixture
def powerdns(one_powerdns: PowerDns) -> PowerDns:
    """The real PowerDNS, without the records of earlier tests."""
    one_powerdns.clear()
    return one_powerdns


@pytest.fixture
def owner() -> Iterator[CrontabOwner]:
    """A user without a crontab."""
    with crontab_owner() as owner:
        yield owner


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Postgresql]:
    """A PostgreSQL server."""
    with running_postgresql() as server:
        yield server
