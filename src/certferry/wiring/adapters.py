"""The adapters of certferry and of other packages, all found through entry points.

An adapter is imported when an account of the adapter's type is first used. Therefore a package that
cannot be imported fails only the accounts using the package. If a call to another package's adapter
raises an unexpected exception, the call fails with an error that names the package (`Guard`).
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from functools import cache, partial
from itertools import chain
from traceback import format_tb
from types import MappingProxyType, UnionType
from typing import TYPE_CHECKING, Any, NoReturn, get_args, get_origin, get_type_hints

from msgspec import Struct

from certferry import errors
from certferry.config.bind import deployment_settings, may_be_written
from certferry.config.mistakes import Mistake, config_error, instead_of
from certferry.config.model import AccountTable
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.redaction import Secret, quoted
from certferry.ports import adapter as adapters
from certferry.ports.adapter import NoAnswer, is_ctrl_c
from certferry.ports.dns import DnsProvider
from certferry.ports.examination import Delegated, Examined, PointedAt, Timed
from certferry.ports.receiver import FileServer
from certferry.ports.survey import Surveyed, ZoneFinder, ZoneKeeper
from certferry.ports.target import DeployTarget
from certferry.reconcile.run import in_thread
from certferry.text import Text, cut, verbatim
from certferry.wiring.registry import ALSO_CALLED

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

OURS = "certferry"
"""The name of the package with the built-in adapters."""

_MUST_HAVE = ("SERVICE", "ENVIRONMENT", "Settings", "connect")

THEIR_MISTAKE = Text(
    "the fault is in the package: report the error to its author, or uninstall the package"
)


class BrokenAdapter(errors.ConfigError):
    """An unusable adapter of another package; other adapters still work."""


@dataclass(frozen=True, slots=True)
class NothingMore:
    """An empty set of options, for deployments to a target without `DeploySettings`."""


@dataclass(frozen=True)
class Described:
    """An adapter, with its name and the package that declares it."""

    name: str  #: The `type` that operators write.
    package: str  #: The package declaring the adapter.
    adapter: adapters.Adapter  #: The adapter's module.

    @property
    def is_ours(self) -> bool:
        """Whether the adapter comes with certferry."""
        return self.package == OURS

    @property
    def options(self) -> Any:
        """The class with a deployment's options, for `config.bind`."""
        return getattr(self.adapter, "DeploySettings", NothingMore)

    @property
    def where_keys_are(self) -> Text | None:
        """How operators find the keys of an account, if the adapter says so."""
        return getattr(self.adapter, "WHERE_KEYS_ARE", None)

    @property
    def called(self) -> Text:
        """The service's name for people."""
        return getattr(self.adapter, "CALLED", None) or verbatim(self.adapter.SERVICE)

    @property
    def rank(self) -> float:
        """The place among the offers of `certferry init`; an adapter without a rank comes last."""
        rank = getattr(self.adapter, "RANK", None)
        return math.inf if rank is None else rank

    @property
    def only_sends(self) -> bool:
        """Whether the channel is used even if declared in a file that other users can write."""
        return getattr(self.adapter, "ONLY_SENDS", False) is True

    @property
    def codes(self) -> Mapping[str, adapters.CodeMeaning]:
        """The meanings of the codes in the service's answers, by code."""
        return getattr(self.adapter, "CODES", {})

    @property
    def needs_common_name(self) -> adapters.CommonNameRule | None:
        """The rule of a target that refuses certificates without a common name."""
        return getattr(self.adapter, "NEEDS_COMMON_NAME", None)

    @property
    def command_words(self) -> tuple[str, ...]:
        """The words by which another client's command shows that it deploys to the service."""
        return getattr(self.adapter, "COMMAND_WORDS", (self.name,))

    @property
    def has_one_account_a_domain(self) -> bool:
        """Whether the service allows a domain at one account only."""
        return getattr(self.adapter, "ONE_ACCOUNT_A_DOMAIN", False) is True

    def least_life(self, written: Mapping[str, object]) -> timedelta:
        """Return the validity that the target requires of a new certificate. `written` is the
        account's table.
        """
        name = getattr(self.adapter, "LEAST_LIFE", None)
        if name is None:
            return timedelta(0)
        usual = {field.name: field.default for field in dataclasses.fields(self.adapter.Settings)}
        days = written.get(name, usual[name])
        # A value that is not a number counts as zero. Connecting the account reports the value.
        return timedelta(days=days) if isinstance(days, int) else timedelta(0)


def type_instead_of(word: str, types: Sequence[str]) -> Text:
    """Return advice with the type probably meant by `word`. Other names of a service are
    recognised.
    """
    return instead_of(ALSO_CALLED.get(word.lower(), word), types)


def described(point: EntryPoint, role: Text) -> Described:
    """Import the adapter declared by an entry point. If the adapter of another package is unusable,
    raises `BrokenAdapter` with the name of the package.
    """
    package = package_of(point)
    try:
        module = point.load()
    except (Exception, SystemExit) as exc:
        if package == OURS:
            raise
        message = Text("{module} (the {role} {name}) cannot be imported: {problem}")
        facts = {"role": role, "name": point.name, "problem": in_short(exc)}
        raise wrong_with(package, message.filled(module=point.module, **facts)) from exc
    adapter = Described(point.name, package, module)
    try:
        mistake = next(_mistakes(adapter, point.value), None)
    except Exception as exc:
        raise wrong_with(package, verbatim(in_short(exc))) from exc
    if mistake is not None:
        raise wrong_with(package, mistake)
    return adapter


def package_of(point: EntryPoint) -> str:
    """Return the name of the package declaring an entry point."""
    return point.dist.name if point.dist is not None else point.module.partition(".")[0]


def wrong_with(package: str, problem: Text) -> BrokenAdapter:
    """Return an error that names the package and the package's problem."""
    message = Text("the package {package}: {problem}", package=package, problem=problem)
    return BrokenAdapter(message, hint=THEIR_MISTAKE)


def in_short(error: BaseException) -> str:
    """Return a foreign error's type and message, on one line."""
    words = ""
    with suppress(Exception):  # `__str__` is the package's and may fail
        words = " ".join(cut(str(error)).split())
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _mistakes(description: Described, module: str) -> Iterator[Text]:
    """Yield the mistakes in an adapter's module. The caller must stop after the first mistake: the
    next check may raise, for example because of a missing name.
    """
    names: Any = description.adapter
    missing = [name for name in _MUST_HAVE if not hasattr(names, name)]
    if missing:
        yield Text("{module} has no {missing}", module=module, missing=missing)
    if not (inspect.isclass(names.Settings) and dataclasses.is_dataclass(names.Settings)):
        yield Text("`Settings` of {module} is not a dataclass", module=module)
    keys = may_be_written(names.Settings)
    for variable in names.ENVIRONMENT:
        is_variable = isinstance(variable, adapters.Variable) and isinstance(variable.names, tuple)
        if not (is_variable and variable.names):
            yield Text("`ENVIRONMENT` of {module} has no `Variable`s with names", module=module)
        if variable.key not in keys:
            yield Text("`Settings` of {module} has no {key}", module=module, key=variable.key)
    deployment_settings(description.options)
    yield from _mistakes_of_more(description, module, keys)


def _mistakes_of_more(description: Described, module: str, keys: Collection[str]) -> Iterator[Text]:
    """Yield the mistakes in the optional names of an adapter."""
    names: Any = description.adapter
    where: Any = description.where_keys_are
    if where is not None and not isinstance(where, Text):
        yield Text("`WHERE_KEYS_ARE` of {module} is not a `Text`", module=module)
    called: Any = getattr(names, "CALLED", None)
    if called is not None and not isinstance(called, Text):
        yield Text("`CALLED` of {module} is not a `Text`", module=module)
    rank: Any = getattr(names, "RANK", None)
    if rank is not None and type(rank) is not int:
        yield Text("`RANK` of {module} is not a whole number", module=module)
    if not isinstance(getattr(names, "ONLY_SENDS", False), bool):
        yield Text("`ONLY_SENDS` of {module} is neither True nor False", module=module)
    codes: Any = description.codes
    if not isinstance(codes, Mapping) or not all(
        isinstance(code, str) and isinstance(meaning, adapters.CodeMeaning)
        for code, meaning in codes.items()
    ):
        yield Text("`CODES` of {module} is not a mapping to `CodeMeaning`s", module=module)
    yield from _mistakes_of_target(description, module, keys)


def _mistakes_of_target(
    description: Described, module: str, keys: Collection[str]
) -> Iterator[Text]:
    """Yield the mistakes in the optional names of a target."""
    rule: Any = description.needs_common_name
    if rule is not None:
        if not isinstance(rule, adapters.CommonNameRule):
            yield Text("`NEEDS_COMMON_NAME` of {module} is not a `CommonNameRule`", module=module)
        if rule.unless not in ("", *keys):
            yield Text("`Settings` of {module} has no {key}", module=module, key=rule.unless)
    words: Any = description.command_words
    if not isinstance(words, tuple) or not all(
        isinstance(word, str) and word == word.lower() for word in words
    ):
        yield Text(
            "`COMMAND_WORDS` of {module} is not a tuple of words in lowercase", module=module
        )
    least_life: Any = getattr(description.adapter, "LEAST_LIFE", None)
    if least_life is not None and least_life not in keys:
        yield Text("`Settings` of {module} has no {key}", module=module, key=least_life)


log = logging.getLogger(__name__)
_Raised = type[errors.CertferryError]


class Family(Struct, frozen=True):
    """A kind of adapter: DNS providers, targets, servers or channels."""

    #: The group of the entry points.
    group: str
    #: The word for such an adapter in sentences.
    role: Text
    #: The protocols of the port. Every port keeps the first protocol; the others are optional.
    protocols: tuple[type, ...] = ()
    #: The error raised if a port refuses, or fails in an unexpected way.
    refused: _Raised = errors.CertferryError
    #: The error raised if a port cannot be reached.
    unavailable: _Raised = errors.CertferryError

    @property
    def required(self) -> tuple[str, ...]:
        """The methods that every port must have."""
        return tuple(name for name in vars(self.protocols[0]) if not name.startswith("_"))

    def methods(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Yield the name of each method of the protocols, with the types that the method may
        return.
        """
        for name, method in chain.from_iterable(
            vars(protocol).items() for protocol in self.protocols
        ):
            if not name.startswith("_"):
                returned = get_type_hints(method)["return"]
                options = get_args(returned) if isinstance(returned, UnionType) else (returned,)
                yield name, options


def _is_a(answer: object, kind: Any) -> bool:
    """Return whether a port's answer has the type `kind`. In a collection, each member must have
    the type of the members as well.
    """
    if not isinstance(answer, get_origin(kind) or kind):
        return False
    members = {member for member in get_args(kind) if member is not Ellipsis}
    if not (members and isinstance(answer, Iterable)):
        return True
    values = chain.from_iterable(answer.items()) if isinstance(answer, Mapping) else answer
    return all(isinstance(member, tuple(members)) for member in values)


def _shape(answer: object) -> str:
    """Return the type of an answer, with the type of a collection's first member."""
    name = type(answer).__name__
    if isinstance(answer, Collection) and not isinstance(answer, str | bytes) and answer:
        name += f" of {type(next(iter(answer))).__name__}"
    return name


def _name(kind: Any) -> str:
    outer, members = get_origin(kind) or kind, get_args(kind)
    return f"{outer.__name__} of {members[0].__name__}" if members else str(outer.__name__)


DNS_PROVIDERS = Family(
    adapters.DNS_GROUP,
    Text("DNS provider"),
    (DnsProvider, ZoneKeeper, ZoneFinder, Examined, Timed, Delegated),
    errors.DnsError,
    errors.DnsUnavailable,
)
TARGETS = Family(
    adapters.TARGET_GROUP,
    Text("target"),
    (DeployTarget, Surveyed, Examined, Timed, PointedAt),
    errors.DeployError,
    errors.TargetUnavailable,
)
SERVERS = Family(
    adapters.SERVER_GROUP,
    Text("server"),
    (FileServer,),
    errors.DeployError,
    errors.TargetUnavailable,
)
CHANNELS = Family(adapters.NOTIFY_GROUP, Text("channel of notifications"))
FAMILIES: Mapping[str, Family] = MappingProxyType(
    {family.group: family for family in (DNS_PROVIDERS, TARGETS, SERVERS)}
)


class AdapterTable:
    """The adapters, by family and name. `declared` returns the entry points of a group."""

    def __init__(self, declared: Callable[[str], Iterable[EntryPoint]]) -> None:
        self.declared = declared
        self._families: dict[str, dict[str, list[EntryPoint]]] = {}

    def names(self, family: Family) -> Sequence[str]:
        """Return the types of a family's adapters, certferry's own first."""
        return list(self._of(family))

    def is_known(self, family: Family, name: str) -> bool:
        """Return whether a name is declared. Imports nothing."""
        return name in self._of(family)

    def find(self, family: Family, name: str) -> Described:
        """Import an adapter. Raises `KeyError` for an unknown name, and `BrokenAdapter` for an
        unusable adapter and for a name that several other packages declare.
        """
        return described(self._chosen(family, name), family.role)

    def of_type(self, name: str) -> list[Described]:
        """Import the adapters called `name`: the DNS provider, the target, the server. Raises
        `BrokenAdapter`.
        """
        families = [family for family in FAMILIES.values() if self.is_known(family, name)]
        return [self.find(family, name) for family in families]

    def target_of(self, account: AccountTable) -> Described | None:
        """Import the adapter of an account's target. Return `None` if the account's type is not a
        target, or if the adapter is broken; connecting the account reports a broken adapter.
        """
        try:
            return self.find(TARGETS, account.type)
        except (KeyError, errors.ConfigError):
            return None

    def labels(self, family: Family, accounts: Iterable[AccountTable]) -> tuple[str, ...]:
        """Return the labels of a family's accounts. Imports nothing."""
        return tuple(account.label for account in accounts if self.is_known(family, account.type))

    def of_account(self, family: Family, account: AccountTable) -> Described:
        """Import the adapter of an account. Raises `ConfigError` with the line of the account, for
        an unknown or a broken adapter.
        """
        try:
            return self.find(family, account.type)
        except KeyError:
            problem = Text(
                "{type} is not a {role}; {advice}",
                type=account.type,
                role=family.role,
                advice=type_instead_of(account.type, self.names(family)),
            )
            raise config_error([account.place.mistake("type", problem)]) from None
        except BrokenAdapter as wrong:
            raise used_by(account, wrong) from wrong

    def unknown_types(self, accounts: Iterable[AccountTable]) -> Sequence[Mistake]:
        """See `config.model.Adapters.unknown_types`. Imports nothing."""
        types = dict.fromkeys(name for family in FAMILIES.values() for name in self.names(family))
        return [
            account.place.mistake(
                "type",
                Text("{type} is neither a DNS provider nor a target nor a server; {advice}").filled(
                    type=account.type, advice=type_instead_of(account.type, list(types))
                ),
            )
            for account in accounts
            if account.type not in types
        ]

    def meanings_of(self, code: str) -> Mapping[Text, adapters.CodeMeaning]:
        """Return the meanings of a code, by service. If no service knows the whole code, the
        meaning of the longest known part before a dot counts.
        """
        whole: dict[Text, adapters.CodeMeaning] = {}
        partial: dict[Text, adapters.CodeMeaning] = {}
        for family in (*FAMILIES.values(), CHANNELS):
            for name in self.names(family):
                with suppress(BrokenAdapter):
                    adapter = self.find(family, name)
                    parts = code.split(".")
                    codes = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
                    matching = next(
                        (candidate for candidate in codes if candidate in adapter.codes), None
                    )
                    if matching is not None:
                        meanings = whole if matching == code else partial
                        meanings.setdefault(adapter.called, adapter.codes[matching])
        return whole or partial

    def _of(self, family: Family) -> dict[str, list[EntryPoint]]:
        if family.group not in self._families:
            points: dict[str, list[EntryPoint]] = {}
            declared = list(self.declared(family.group))
            for point in sorted(
                declared, key=lambda entry: (package_of(entry) != OURS, entry.name)
            ):
                points.setdefault(point.name, []).append(point)
            self._families[family.group] = points
        return self._families[family.group]

    def _chosen(self, family: Family, name: str) -> EntryPoint:
        first, *others = self._of(family)[name]
        if not others:
            return first
        if package_of(first) == OURS:
            for other in others:
                message = Text(
                    "the package {package} declares the {role} {name}, which is part of"
                    " certferry; certferry ignores the package's"
                )
                log.warning(message.filled(package=package_of(other), role=family.role, name=name))
            return first
        raise BrokenAdapter(
            Text(
                "several packages declare the {role} {name}: {packages}",
                role=family.role,
                name=name,
                packages=sorted({package_of(point) for point in (first, *others)}),
            ),
            hint=Text(
                "uninstall all but one of the packages, since certferry does not guess who"
                " should get the keys"
            ),
        )


@cache
def installed() -> AdapterTable:
    """Return the table of the adapters installed beside certferry."""

    def declared(group: str) -> Iterable[EntryPoint]:
        from importlib.metadata import entry_points

        return entry_points(group=group)

    return AdapterTable(declared)


def used_by(account: AccountTable, wrong: BrokenAdapter) -> BrokenAdapter:
    """Return the error with the line of the account using the adapter."""
    return BrokenAdapter(account.place.mistake("type", wrong.message).text, hint=wrong.hint)


class Guard(Struct, frozen=True):
    """Protects runs from the errors of another package's port."""

    whose: Described  #: The adapter of the port.
    hidden: Callable[[], frozenset[Secret]]  #: Returns the secrets to mask in errors.
    within: timedelta = timedelta(seconds=60)  #: Time limit for connecting.

    @contextmanager
    def over(self, refused: _Raised, lost: _Raised, *, has_key: bool = False) -> Iterator[None]:
        """Replace exceptions of the `with` block: `NoAnswer` by `lost`, and any other foreign
        exception, `sys.exit` included, by `refused`. certferry's own errors and Ctrl-C pass.

        `has_key`: a private key is among the call's arguments. The debug log then has the type and
        the traceback of the exception, without the message.
        """
        try:
            yield
        except errors.Reported:
            raise
        except NoAnswer as exc:
            where = self.whose.adapter.SERVICE
            raise lost(Text("{where}: {problem}", where=where, problem=exc.problem)) from exc
        except BaseException as exc:
            if is_ctrl_c(exc):
                raise
            hidden = self.hidden()  # the log masks secrets as long as a variable holds the secrets
            where = "\n" + "".join(format_tb(exc.__traceback__)) if has_key else ""
            log.debug("%s%s", type(exc).__name__, where, exc_info=None if has_key else exc)
            problem = quoted(in_short(exc), hidden)
            failed = self._wrong(Text("{name} failed: {problem}"), problem=problem)
            raise refused(failed.message, hint=failed.hint) from exc

    def connecting(self, required: tuple[str, ...], connect: Callable[[], object]) -> object:
        """Connect within the time limit, and return the port. Raises `BrokenAdapter` if connecting
        fails or takes too long, or if the port lacks a required method. certferry's own errors,
        such as `ConfigError`, pass.
        """

        def guarded() -> object:
            with self.over(BrokenAdapter, BrokenAdapter):
                return connect()

        outcome = in_thread(guarded, "connect")
        if not wait([outcome], self.within.total_seconds()).done:
            raise self._wrong(Text("{name} does not connect within {time}"), time=self.within)
        port = outcome.result()
        with self.over(BrokenAdapter, BrokenAdapter):
            missing = [method for method in required if not callable(getattr(port, method, None))]
        if missing:
            message = Text("the object that {name} connects to has no {missing}")
            raise self._wrong(message, missing=missing)
        return port

    def around(self, family: Family, port: object) -> Any:
        """Return `port` wrapped in this guard. Warn of each method that looks like a misspelt
        method of the family's protocols.
        """
        with self.over(BrokenAdapter, BrokenAdapter):
            methods = dict(family.methods())
            lacking = [name for name in methods if not hasattr(port, name)]
            others = [name for name in dir(type(port)) if name not in methods and name[0] != "_"]
        for name in others:
            for meant in get_close_matches(name, lacking, n=1, cutoff=0.8):
                message = Text("{name} has {method}, which is never called; did you mean {word}?")
                wrong = self._wrong(message, method=name, word=meant)
                log.warning(Text("{words}", words=wrong.message))
        calls = {
            name: staticmethod(partial(self._call, family, port, name, kinds))
            for name, kinds in methods.items()
            if name not in lacking
        }
        return type("Guarded", (), calls)()

    def _call(
        self, family: Family, port: Any, name: str, kinds: Any, /, *args: Any, **kwargs: Any
    ) -> Any:
        has_key = any(
            isinstance(argument, CertificateBundle) for argument in (*args, *kwargs.values())
        )
        with self.over(family.refused, family.unavailable, has_key=has_key):
            answer = getattr(port, name)(*args, **kwargs)
            if kinds != (bool,) and not any(_is_a(answer, kind) for kind in kinds):
                msg = f"gave {_shape(answer)} and not {_name(kinds[0])}"
                raise TypeError(msg)
            return answer

    def _wrong(self, message: Text, **values: object) -> BrokenAdapter:
        return wrong_with(self.whose.package, message.filled(name=self.whose.name, **values))


def broken(family: Family, wrong: BrokenAdapter) -> Any:
    """Return a port with the required methods and `zones`. Every call raises the family's error,
    which says why the adapter is unusable.
    """

    def fail(*_arguments: object, **_options: object) -> NoReturn:
        raise family.refused(wrong.message, hint=wrong.hint)

    return type("Broken", (), dict.fromkeys((*family.required, "zones"), fail))()
