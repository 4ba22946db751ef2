"""How an adapter is described: what an operator writes, what it reads of the environment, and how
it is connected.

An adapter is a module with the attributes of `Adapter`. A package declares it as an entry point,
whose name is what operators write as `type`: in the group `certferry.dns` where it connects to a
`ports.dns.DnsProvider`, in `certferry.targets` where it connects to a `ports.target.DeployTarget`,
in `certferry.notify` where it connects to a `ports.notifier.Notifier`.

A target may have four names more:

- `DeploySettings`, a frozen dataclass of what a deployment to it may set, of the fields of
  `core.desired.certificate.DesiredHttps` and `kind`. Without it, that is nothing beside what each
  deployment may set, such as `domains` and `retire`. `config.bind` says which types its fields
  may have, and that a method `wrong` may return what does not go together.
- `NEEDS_COMMON_NAME`, a `CommonNameRule`: certificates without a common name are refused. Without
  it, they are taken.
- `LEAST_LIFE`, the name of a field of `Settings`: how many days a certificate must be valid still
  when it is taken in. A profile whose certificates never are is refused when the file is read.
- `ONE_ACCOUNT_A_DOMAIN`, which is true: the service lets a domain be at one account only. A file
  that names one for two accounts is refused.

Every adapter may have `WHERE_KEYS_ARE`, a `Text`: where an operator finds the keys, as a way
through the service's console. `certferry init` says it before it asks, and
docs/reference/adapters.md has it.

It may have `CODES` as well, from each code that the service answers with, as messages print it, to
a `CodeMeaning`: `certferry help CODE` prints it.

What a field of `Settings` or `DeploySettings` means stands beside its type, as
`Annotated[str, Text("the address of the API")]`, where no `Variable` says it: `certferry init` asks
with these words, and docs/reference/adapters.md is made of them.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Protocol

from certferry.ports.progress import Pause, Progress
from certferry.ports.state import AccountMemory
from certferry.text import Quoted, Text

NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Answer:
    """What came back, whatever the status. Headers are found in any case."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


def json_object(raw: bytes) -> dict[str, Any] | None:
    """Read a body that should be a JSON object; `None` if it is not."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def is_ctrl_c(error: BaseException) -> bool:
    """Return whether a signal may have raised an error: Python handles signals in the main thread
    alone. A package that raises `KeyboardInterrupt` in another thread has failed.
    """
    is_main = threading.current_thread() is threading.main_thread()
    return is_main and isinstance(error, KeyboardInterrupt)


class NoAnswer(Exception):
    """No usable answer came. `maybe_done`: the server may have carried the request out."""

    def __init__(self, problem: Text, *, maybe_done: bool) -> None:
        super().__init__(str(problem))
        self.problem = problem
        self.maybe_done = maybe_done


class Http(Protocol):
    """One service's connections. Safe to share between threads."""

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] = NO_HEADERS,
        body: bytes | None = None,
        *,
        repeatable: bool = False,
    ) -> Answer:
        """Send a request and give the answer, whatever its status.

        A repeatable request is made again after transport errors and statuses 5xx, any request
        where surely nothing was done: no connection was made, or there were too many requests.
        Waits for no answer for ever, follows no redirect and keeps no cookie. Raises `NoAnswer`,
        and `Interrupted` when the run is stopped.
        """


class Pace(Protocol):
    """Asked for a turn before each request."""

    def wait(self) -> None:
        """Return when the next request may be sent. Raises whatever a pause raises, and
        `StateError` where hosts share the pace by their state.
        """


OpenPace = Callable[[str, float], Pace]
"""Return the pace of an account's requests to a URL: so many a second, of all runs together; on
every host, where hosts share a state."""

OpenHttp = Callable[[float], Http]
"""Open connections to one service, with at most so many requests per second in this process."""


DNS_GROUP = "certferry.dns"
TARGET_GROUP = "certferry.targets"
NOTIFY_GROUP = "certferry.notify"


@dataclass(frozen=True, slots=True)
class Variable:
    """A key of the settings that the environment may hold, under the first of the names that is
    set. `what` says what it is, where it is missing or asked for: "the API token of …". One that
    `is_public` proves nothing alone, such as the id of a token: it is seen while it is typed, and
    by a digest of it hosts that share a state know that an account of theirs is the same. Where
    each such key is alike, `pattern` is what one matches as a whole, as a regular expression.
    """

    key: str
    names: tuple[str, ...]
    what: Text
    is_public: bool = False
    pattern: str = ""


@dataclass(frozen=True, slots=True)
class CodeMeaning:
    """What to do about a code that a service answers with, and what it means."""

    advice: Text
    meaning: Text | None = None


@dataclass(frozen=True, slots=True)
class CommonNameRule:
    """A target refuses certificates without a common name, so a profile that makes such is refused
    when the file is read. `unless` is a setting, true or false, with which an account takes them
    all the same, and `advice` says when to set it; both are empty where there is none.
    """

    unless: str = ""
    advice: Text | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """What a run gives to an adapter; it needs no other clock, sleep or connection.

    `pause` waits, and raises `Interrupted` when the run is stopped: that must pass. `now` gives an
    aware UTC datetime. `memory` is the account's own, between runs. `http` opens connections to a
    service that keep the run's manners: see `ports.adapter.Http`. `progress` takes events for the
    run's listeners. `run` runs a program of the operator's. `contact` is a mail address that a
    service may write to, or empty; `language` the one in which a person reads what happens, `en` or
    `zh`. `pace` is for adapters that bring their own client: `None` where there is one run alone.
    They also call `ports.state.must_still_hold` last before they send anything.
    """

    pause: Pause
    now: Callable[[], datetime]
    memory: AccountMemory
    http: OpenHttp
    progress: Progress
    run: RunProgram
    contact: str = ""
    language: str = "en"
    pace: OpenPace | None = None


class Adapter(Protocol):
    """One kind of account. A module keeps this by having these names."""

    @property
    def SERVICE(self) -> str:  # noqa: N802 - a module's constant
        """How the service is called in sentences, such as `Harbour`."""

    @property
    def ENVIRONMENT(self) -> Sequence[Variable]:  # noqa: N802 - a module's constant
        """The keys that are asked for where there are none: of `certferry init`, and where there is
        no file. Each is a field of the settings, required unless another can stand in its place.
        """

    @property
    def Settings(self) -> type[Any]:  # noqa: N802 - a module's class
        """A frozen dataclass. Its fields are the keys of an account, and a field without a default
        is required; `config.bind` says which types a field may have. A `Secret` never prints.
        """

    def connect(self, settings: Any, context: Context, /) -> Any:
        """Return the account's port, for all that a run does with it: it may be shared between
        threads. Sends nothing yet. Raises `ConfigError` for settings that can be none.
        """


@dataclass(frozen=True, slots=True)
class Ended:
    """A program's exit code, negative for a signal, and its last words."""

    code: int
    words: Quoted


class RunProgram(Protocol):
    """Runs programs."""

    def __call__(self, arguments: Sequence[str], within: timedelta, given: bytes = b"") -> Ended:
        """Run a program to its end: without a shell, in the directory of the configuration file,
        and with an environment that lacks the accounts' keys; what it is `given` is on its standard
        input. What it says goes to the log, as far as it is no secret. One that is still running
        after this time is ended with its children.

        Raises `TargetRejected` when it cannot be run, another `DeployError` when it was ended for
        its time, and `Interrupted` when the run is stopped.
        """
