"""What every test can rely on: a clean environment, and bounded property tests."""

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
    """Have Python look for garbage among what the tests leave, and not among the tests themselves:
    they are some million objects, and each look at all of them takes half a second.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave what is thorough to `scripts/test --thorough`, unless it is asked for by its name; put
    what takes long first.
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
    """Look for the program that a test is marked with, before its fixtures are made."""
    for mark in item.iter_markers("needs"):
        program_path(*mark.args)


# No deadline: the machine is shared and tests run in parallel, so one slow example means nothing.
settings.register_profile(
    "ci", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", parent=settings.get_profile("ci"), max_examples=2000)
# The gate tries the same examples each time, so that one change is not refused for what another one
# brought; the thorough tier seeks new ones.
settings.register_profile(
    "gate", parent=settings.get_profile("ci"), max_examples=10, derandomize=True
)
_USUAL = "ci" if tiers.THOROUGH else "gate"
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", _USUAL))

# A run in the background ignores these, and what a test starts would as well: then nothing could be
# stopped in the middle. A handler is not passed on, so the run itself still takes no notice.
for _number in (signal.SIGHUP, signal.SIGINT):
    if signal.SIG_IGN == signal.getsignal(_number):
        signal.signal(_number, lambda *_: None)

# What a test reads is written by the clock of no place, wherever the machine is.
os.environ["TZ"] = "UTC"
time.tzset()

# What certferry, the vendors' own tools and the HTTP libraries would read from the environment.
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
    """Make an empty home; `mktemp` would read the names of all that there are for each test."""
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
    """Give each test an empty home and an environment that says nothing; yield the home."""
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
    with suppress(OSError):  # the test has put something there
        home.rmdir()


@pytest.fixture(autouse=True)
def undisturbed_logging() -> Iterator[None]:
    """Undo what a command run in this process does to the log, so that no other test reads less, or
    more, than it asked for. The levels of before are not asked for: a fixture of several tests may
    have run a command.
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
    """A CA that refuses no good nonce, one of each worker's."""
    with running_ca(nonce_reject=0) as ca:
        yield ca


@pytest.fixture(scope="session")
def one_bind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bind]:
    """A real BIND, one of each worker's."""
    with running_bind(tmp_path_factory.mktemp("bind")) as bind:
        yield bind


@pytest.fixture
def bind(one_bind: Bind) -> Bind:
    """The real BIND, without what other tests have put there."""
    one_bind.clear()
    return one_bind


@pytest.fixture(scope="session")
def one_powerdns(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PowerDns]:
    """A real PowerDNS, one of each worker's."""
    with running_powerdns(tmp_path_factory.mktemp("powerdns")) as server:
        yield server


@pytest.fixture
def powerdns(one_powerdns: PowerDns) -> PowerDns:
    """The real PowerDNS, without what other tests have put there."""
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
