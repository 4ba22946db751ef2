"""The parts of an adapter: the settings, the environment variables and the connection.

An adapter is a module with the attributes of `Adapter`. A package declares the module as an entry
point, for example

    [project.entry-points."certferry.dns"]
    harbour = "certferry_harbour.dns"

and operators write the entry point's name as `type`. The group says which port `connect` returns:

- `certferry.dns`: a `ports.dns.DnsProvider`
- `certferry.targets`: a `ports.target.DeployTarget`
- `certferry.notify`: a `ports.notifier.Notifier`
- `certferry.servers`: a `ports.receiver.FileServer`

A target may define five more names:

- `DeploySettings`, a frozen dataclass of the settings that a deployment to the target may have:
  fields of `core.desired.certificate.DesiredHttps`, and `kind`. By default a deployment has only
  the settings of every deployment, such as `domains` and `retire`. `config.bind` lists the types a
  field may have; a method `wrong` may return contradictions between fields.
- `NEEDS_COMMON_NAME`, a `CommonNameRule`: the target refuses certificates without a common name.
  By default the target takes these certificates.
- `LEAST_LIFE`, the name of a field of `Settings`: the days of validity that a certificate must
  have left at upload. A profile with shorter certificates is refused when the file is read.
- `ONE_ACCOUNT_A_DOMAIN = True`: the service allows a domain in one account only. A file naming a
  domain for two accounts is refused.
- `COMMAND_WORDS`, a tuple of words in lowercase: a command of another ACME client that contains one
  of the words deploys to the service. By default the adapter's type is the only word.

Any adapter may define four more:

- `CALLED`, a `Text`: the service's name in messages and questions, if a language has another name
  than `SERVICE`. By default a person reads `SERVICE`.
- `RANK`, a whole number: the place among the offers of `certferry init`, lower numbers first.
  Adapters without a rank come last. The account types used without a configuration file
  (`wiring.registry.USUAL`) stay first.
- `WHERE_KEYS_ARE`, a `Text`: the way through the service's console to the keys. `certferry init`
  prints the way before the questions, and docs/reference/adapters.md has the same text.
- `CODES`: a mapping from each of the service's codes, as messages print the code, to a
  `CodeMeaning`. `certferry help CODE` prints the meaning.

A channel of notifications may define one more, **a question of security**:

- `ONLY_SENDS = True`: the channel sends a message to an address from the channel's settings, and
  does nothing else: the channel starts no program, and no library opens an address in the channel's
  place. Such a channel is used even if other users can write the configuration file. By default a
  channel is not used then. `certferry_sandbox.testing.contracts.notifier` has the contract,
  `OnlySendsContract`.

The meaning of a field of `Settings` or `DeploySettings` stands beside the type, as
`Annotated[str, Text("the address of the API")]`, unless a `Variable` describes the field.
`certferry init` asks with these words, and docs/reference/adapters.md has the same words.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, NewType, Protocol

from msgspec import Struct

from certferry.core.redaction import Secret
from certferry.ports.progress import Pause, Progress
from certferry.ports.state import AccountMemory
from certferry.text import Quoted, Text

NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Answer:
    """An HTTP response of any status. Header names are compared without case."""

    status: int  #: The status code.
    headers: Mapping[str, str] = field(repr=False)  #: The headers by name.
    body: bytes = field(repr=False)  #: The body without a transfer coding.


def json_object(raw: bytes) -> dict[str, Any] | None:
    """Read a body as a JSON object; return `None` for any other content."""
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def is_ctrl_c(error: BaseException) -> bool:
    """Return whether an error is a `KeyboardInterrupt` in the main thread, so that Ctrl-C may have
    raised the error. Python handles signals only in the main thread, so in another thread a package
    raised the `KeyboardInterrupt` by mistake.
    """
    is_main = threading.current_thread() is threading.main_thread()
    return is_main and isinstance(error, KeyboardInterrupt)


class NoAnswer(Exception):
    """No usable answer came to a request (`Http.send`)."""

    def __init__(self, problem: Text, *, maybe_done: bool) -> None:
        super().__init__(str(problem))
        #: The problem in words for people.
        self.problem = problem
        #: Whether the server may have carried out the request.
        self.maybe_done = maybe_done


class Http(Protocol):
    """The connections to one service. Threads may share the object."""

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] = NO_HEADERS,
        body: bytes | None = None,
        *,
        repeatable: bool = False,
    ) -> Answer:
        """Send a request and return the answer, whatever the status.

        A `repeatable` request is sent again after transport errors and statuses 5xx. Any request is
        sent again if the server certainly did nothing: the connection failed, or the service
        answered "too many requests". A channel's requests are sent only once. The number of tries
        and every wait are limited. Redirects and cookies are ignored. Raises `NoAnswer`, and
        `Interrupted` when the run is stopped.
        """


class Pace(Protocol):
    """The pace of an account's requests. Callers wait for a turn before each request."""

    def wait(self) -> None:
        """Wait until the next request may be sent. Raises `Interrupted` when the run is stopped,
        and `StateError` if the pace is kept in a state that fails.
        """


OpenPace = Callable[[str, float], Pace]
"""A function that returns the pace of an account's requests to a URL. The number is the requests
per second of all runs together. Hosts that share a state share the pace.
"""

OpenHttp = Callable[[float], Http]
"""A function that opens connections to one service. The number is the requests per second."""


PrivateKey = NewType("PrivateKey", Secret)
"""The type of a setting that is a private key in PEM: a secret of several lines."""

DNS_GROUP = "certferry.dns"
TARGET_GROUP = "certferry.targets"
NOTIFY_GROUP = "certferry.notify"
SERVER_GROUP = "certferry.servers"


class Variable(Struct, frozen=True):
    """A key of the settings, and the environment variables that may hold the key's value."""

    #: The field of `Settings`.
    key: str
    #: Names of environment variables that may hold the value; the first variable that is set
    #: counts.
    names: tuple[str, ...]
    #: The description in questions and in messages on a missing key: "the API token of …".
    description: Text
    #: Whether the value alone proves nothing, such as the id of a token. A public value is echoed
    #: while typed. Hosts compare the value's digest to recognise a shared account.
    is_public: bool = False
    #: A regular expression that matches every whole value; empty if values have no common form.
    pattern: str = ""
    #: The variable under which acme.sh stores the key, if acme.sh has a hook for the service.
    acme_sh: str = ""


class CodeMeaning(Struct, frozen=True):
    """The meaning of a code in a service's answers, and the advice."""

    advice: Text  #: The fix, for the operator.
    meaning: Text | None = None  #: The meaning in words; `None` if the message itself is enough.


class CommonNameRule(Struct, frozen=True):
    """The rule of a target that refuses certificates without a common name. When reading the file,
    certferry refuses a profile that is known to make such certificates, unless the account sets
    `unless`.
    """

    #: The name of the boolean setting with which an account accepts certificates without a common
    #: name; empty if no setting allows them.
    unless: str = ""
    #: When to set `unless`.
    advice: Text | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """The services that a run offers to an adapter. An adapter uses these services, and no clock,
    sleep or socket of its own.

    A port uses the services like this:

        http = context.http(REQUESTS_PER_SECOND)
        answer = http.send("GET", f"{settings.api}/zones", headers)
        context.pause(2)  # between two reads of a slow service
    """

    #: Waits some seconds. The adapter must pass on `Interrupted`, which ends a stopped run.
    pause: Pause
    #: Returns the present moment, as an aware datetime in UTC.
    now: Callable[[], datetime]
    #: Short notes of the account, kept between runs.
    memory: AccountMemory
    #: Opens connections to a service; `Http` describes the limits and retries.
    http: OpenHttp
    #: Reports an event to the run's listeners.
    progress: Progress
    #: Runs one of the operator's programs.
    run: RunProgram
    #: A mail address that a service may write to, or empty.
    contact: str = ""
    #: The language of the person reading the messages, `en` or `zh`.
    language: str = "en"
    #: Opens the account's pace, for an adapter with an HTTP client of its own; `None` for a channel
    #: of notifications. Such an adapter also calls `ports.state.must_still_hold` immediately before
    #: sending anything.
    pace: OpenPace | None = None


class Adapter(Protocol):
    """The description of a kind of account. A module with the names below is such a description."""

    @property
    def SERVICE(self) -> str:  # noqa: N802 - a module's constant
        """The name of the service in sentences, such as `Harbour`."""

    @property
    def ENVIRONMENT(self) -> Sequence[Variable]:  # noqa: N802 - a module's constant
        """The settings that environment variables may hold. `certferry init` asks for these
        settings first, and a run without a configuration file takes them from the environment. Each
        `Variable.key` is a field of `Settings`, and required unless another setting can be given
        instead.
        """

    @property
    def Settings(self) -> type[Any]:  # noqa: N802 - a module's class
        """A frozen dataclass of an account's settings in the file, a field for each. A field
        without a default is required. `config.bind` lists the types that a field may have. Fields
        for credentials have the type `Secret`, which never prints the credential.
        """

    def connect(self, settings: Any, context: Context, /) -> Any:
        """Return the account's port for the whole run; threads may share the port. Requests are
        sent later, by the port's methods. Raises `ConfigError` for impossible settings.
        """


class Ended(Struct, frozen=True):
    """How a program ended."""

    #: The exit code, negative for a signal.
    code: int
    #: The last words of the program's output.
    words: Quoted


class RunProgram(Protocol):
    """Runs programs."""

    def __call__(self, arguments: Sequence[str], within: timedelta, given: bytes = b"") -> Ended:
        """Run a program to the end: without a shell, in the directory of the configuration file,
        with the environment minus the accounts' keys, and with `given` as standard input. The
        program's output goes to the log, secrets masked. A program still running after `within`
        is killed with all child processes.

        Raises `TargetRejected` when the program cannot be started, another `DeployError` when the
        program was killed after `within`, and `Interrupted` when the run is stopped.
        """
