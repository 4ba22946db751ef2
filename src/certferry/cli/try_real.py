"""`scripts/try-real`: which guesses about the real services hold, as a text for an issue.

It is no command of certferry's: it is for developers of certferry, and for operators about to rely
on it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import click

from certferry import __version__
from certferry.cli.complaints import UsageMistake
from certferry.cli.exits import Exit
from certferry.cli.main import run_command
from certferry.config.findings import Finding, config_error
from certferry.config.values import https_url
from certferry.core.secret import Secret
from certferry.core.trial import Judgement, Trial, Verdict
from certferry.errors import CertferryError, ConfigError
from certferry.ports.adapter import Variable
from certferry.present.console import Console, standard_console
from certferry.present.language import LANGUAGES, must_be_spoken, voice_for
from certferry.present.layout import Line, line
from certferry.text import Text
from certferry.wiring.clock import now
from certferry.wiring.settings import variables_of
from certferry.wiring.trial import try_dnspod, try_qiniu

PROGRAM = "scripts/try-real"
SERVICES = {"qiniu": "Qiniu", "dnspod": "DNSPod"}
"""What may be tried, by the names of accounts, and how it is called."""

T = TypeVar("T", bound=Callable[..., Any])

_HELP = Text(
    "Make a few reading calls with real keys, and print which guesses about Qiniu and DNSPod hold:"
    " a text for an issue, without a secret and without a name of yours."
)
_HELP_KEYS = Text(
    "The keys are taken from the environment: QINIU_ACCESS_KEY and QINIU_SECRET_KEY, or QINIU_AK"
    " and QINIU_SK; DP_Id and DP_Key. A service without keys is left out."
)
_SET_THEM = Text(
    "set those of one service, or of both; a file with them is read by"
    " `set -a; . FILE; set +a`, before this program is run"
)
_VERDICTS: Mapping[Verdict, Text] = {
    Verdict.HOLDS: Text("holds"),
    Verdict.DOES_NOT_HOLD: Text("does not hold"),
    Verdict.CANNOT_TELL: Text("cannot be told"),
}


def _address(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Take an address: https, or http on loopback."""
    if value is None:
        return None
    try:
        return https_url(value)
    except ConfigError as wrong:
        where = f"'{parameter.opts[0]}'"
        mistake = Text("invalid value for {where}: {problem}", where=where, problem=wrong.message)
        raise UsageMistake(mistake, ctx) from None


def _hidden(option: str, name: str) -> Callable[[T], T]:
    """Declare another address than the real one: for tests and mirrors."""
    return click.option(option, name, metavar="URL", callback=_address, hidden=True)


@click.command(
    help=f"{_HELP.template}\n\n{_HELP_KEYS.template}",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--lang",
    metavar="|".join(LANGUAGES),
    type=click.Choice(LANGUAGES),
    help="The language of all messages. Default: CERTFERRY_LANG, or the locale's.",
)
@_hidden("--api", "api")
@_hidden("--fusion", "fusion")
@_hidden("--uc", "uc")
@_hidden("--api-backup", "api_backup")
@_hidden("--uc-backup", "uc_backup")
@_hidden("--pili", "pili")
@_hidden("--dnspod", "dnspod")
@click.pass_obj
def program(console: Console, /, lang: str | None, dnspod: str | None, **qiniu: str | None) -> int:
    """Try what there are keys for, print the report, and complain where keys were refused."""
    if lang is None:
        must_be_spoken(console.environ)
    keys = keys_in(console.environ)
    services = [SERVICES[service] for service in keys]
    console.remark([line(console.voice.say(Text("asking {services}…", services=services)))])
    console.stderr.flush()
    trials = [
        _try(service, keys[service], {"api": dnspod} if service == "dnspod" else qiniu)
        for service in keys
    ]
    console.show(report(trials, now(), console.voice.say))
    _must_be_let_in(trials)
    return Exit.OK


def keys_in(environ: Mapping[str, str]) -> dict[str, dict[str, Secret]]:
    """Return the keys of each service that has any. Raises `ConfigError` that names the variables
    that are missing: the other half of a pair, or all of them.
    """
    found: dict[str, dict[str, Secret]] = {}
    missing: dict[str, list[Variable]] = {}
    for service in SERVICES:
        for variable in variables_of(service):
            value = next(filter(None, map(environ.get, variable.names)), None)
            if value is None:
                missing.setdefault(service, []).append(variable)
            else:
                found.setdefault(service, {})[variable.key] = Secret(value)
    lacking = [one for service in found or SERVICES for one in missing.get(service, ())]
    if lacking:
        raise config_error(map(_not_set, lacking), _SET_THEM)
    return found


def report(trials: Iterable[Trial], moment: datetime, say: Callable[[Text], str]) -> Iterator[Line]:
    """Return the report's lines: the findings at each service, and the count."""
    trials = list(trials)
    heading = Text("certferry {version}, tried on {moment}", version=__version__, moment=moment)
    yield line("## ", say(heading))
    yield line()
    yield line(say(_without_names(trials)))
    for trial in trials:
        yield line()
        yield line("### ", trial.service)
        yield line()
        for judgement in trial.judgements:
            yield from _told(judgement, say)
    yield line()
    yield line(say(_count(trials)))


def _without_names(trials: Sequence[Trial]) -> Text:
    return Text(
        "Reading calls only ({calls}). No secret is in this text, and no name of a domain, a"
        " bucket or a certificate of yours.",
        calls=[
            Text("{service}: {count}", service=trial.service, count=trial.requests)
            for trial in trials
        ],
    )


def _told(judgement: Judgement, say: Callable[[Text], str]) -> Iterator[Line]:
    told = Text(
        "{number} {guess}: **{verdict}**",
        number=judgement.number,
        guess=judgement.guess,
        verdict=_VERDICTS[judgement.verdict],
    )
    yield line("- ", say(told))
    yield from (line("  - ", say(seen)) for seen in judgement.seen)


def _count(trials: Sequence[Trial]) -> Text:
    verdicts = [one.verdict for trial in trials for one in trial.judgements]
    return Text(
        "Holds: {holding}. Does not hold: {broken}. Cannot be told by reading: {open}.",
        holding=verdicts.count(Verdict.HOLDS),
        broken=verdicts.count(Verdict.DOES_NOT_HOLD),
        open=verdicts.count(Verdict.CANNOT_TELL),
    )


def _try(service: str, keys: Mapping[str, Secret], addresses: Mapping[str, str | None]) -> Trial:
    others = {name: url for name, url in addresses.items() if url is not None}
    if service == "dnspod":
        return try_dnspod(keys["id"], keys["token"], others, pause=time.sleep)
    return try_qiniu(keys["access_key"], keys["secret_key"], others, pause=time.sleep)


def _must_be_let_in(trials: Sequence[Trial]) -> None:
    """Raise `CertferryError` where a service refused the keys: the report says little then."""
    outside = [trial.service for trial in trials if not trial.let_in]
    if outside:
        raise CertferryError(
            Text("{services} answered no call with success", services=outside),
            hint=Text(
                "the report says with what: 401 and 10002 to 10004 mean the keys, 403 the clock or"
                " the rights of the keys; without a connection, look at network and proxy"
            ),
        )


def _not_set(variable: Variable) -> Finding:
    names = " / ".join(variable.names)
    return Finding(None, None, "", names, Text("not set: {what}", what=variable.what))


def run(arguments: Sequence[str], console: Console) -> int:
    """Run the program and return its exit code: 0 when there is a report, whatever it says; 1 when
    a service refused the keys; 2 for a mistake in the arguments or keys that are missing.
    """
    return run_command(
        program, PROGRAM, arguments, console.speaking(voice_for(arguments, console.environ))
    )


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the program on this process's streams and return its exit code."""
    return run(arguments, standard_console(environ))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
