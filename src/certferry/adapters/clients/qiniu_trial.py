"""The guesses about Qiniu that reading calls can try, by their numbers in docs/facts/qiniu.md
§10.

About twenty requests, all of them GET. A probe that fails costs its own answer and no other's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from certferry.adapters.clients import qiniu_trial_domains as domains
from certferry.adapters.clients import qiniu_trial_lists as lists
from certferry.adapters.clients.qiniu_trial_calls import NotAsked, QiniuReader
from certferry.adapters.clients.qiniu_ways import CallGroup
from certferry.core.clock_skew import WANTED
from certferry.core.trial import Judged, Judgement, Verdict
from certferry.text import Text

_NOT_ASKED = Text("not asked, since none of the first calls was answered with success")


@dataclass(frozen=True, slots=True)
class Probe:
    """A guess, and how it is judged. Where no call was let in, one that `needs_keys` says nothing
    of the guess.
    """

    number: str
    guess: Text
    judge: Callable[[QiniuReader], Judged]
    needs_keys: bool = True


def try_guesses(
    reader: QiniuReader, probes: Sequence[Probe] | None = None
) -> tuple[Judgement, ...]:
    """Try every guess, or these, and return what became of each. Raises what a pause raises."""
    _knock(reader)
    return tuple(_judgement(probe, reader) for probe in (PROBES if probes is None else probes))


def _knock(reader: QiniuReader) -> None:
    """Ask by every way for what any account has; keys that no way takes end the trial."""
    reader.ask_by_all_ways(CallGroup.DOMAINS, domains.DOMAINS)
    reader.ask_by_all_ways(CallGroup.CERTIFICATES, lists.CERTIFICATES)
    reader.ask_by_all_ways(CallGroup.BUCKETS, lists.BUCKETS)
    if not reader.let_in:
        reader.close()


def _judgement(probe: Probe, reader: QiniuReader) -> Judgement:
    holds: bool | None = None
    seen: tuple[Text, ...]
    try:
        holds, seen = probe.judge(reader)
    except NotAsked:
        seen = (_NOT_ASKED,)
    except Exception as problem:  # noqa: BLE001 - whatever it is, the other probes go on
        # What it says is left out: it may quote the answer.
        kind = type(problem).__name__
        seen = (Text("the answer differs from the expected one ({kind})", kind=kind),)
    if probe.needs_keys and not reader.let_in:
        holds = None
    return Judgement(probe.number, probe.guess, Verdict.of(holds), tuple(dict.fromkeys(seen)))


def _clock(reader: QiniuReader) -> Judged:
    """Judge this machine's clock by the first answer that told the time."""
    timed = [(seen.way.host, seen.ahead) for seen in reader.seen if seen.ahead is not None]
    if not timed:
        return None, (Text("no answer told the time"),)
    host, ahead = timed[0]
    # The answer's Date is cut to the second, so less than one says nothing.
    amount = timedelta(seconds=abs(int(ahead.total_seconds())))
    seen = (
        Text("{host} is {amount} ahead of this machine", host=host, amount=amount)
        if ahead > timedelta(0)
        else Text("{host} is {amount} behind this machine", host=host, amount=amount)
    )
    return amount <= WANTED, (seen,)


def _untried(why: Text) -> Callable[[QiniuReader], Judged]:
    return lambda _: (None, (why,))


PROBES = (
    Probe("1.1", Text("an empty list may come as null"), lists.null_lists),
    Probe(
        "1.3",
        Text("uc.qiniuapi.com answers /cert/bindings, under the Qiniu scheme"),
        lists.bindings,
    ),
    Probe(
        "1.6",
        Text("the detail of a domain with HTTPS shows its redirect and its HTTP/2"),
        domains.settings,
    ),
    Probe(
        "1.8",
        Text("fusion.qiniuapi.com answers /sslcert, under the QBox scheme"),
        lists.certificates,
    ),
    Probe(
        "§1",
        Text("api.qiniu.com answers /domain, under the Qiniu scheme"),
        domains.first_scheme,
    ),
    Probe("1.9", Text("a certificate's name may have more than 23 characters"), lists.names),
    Probe("1.11", Text("TLS versions are an array"), domains.versions),
    Probe("1.12", Text("a path below a domain that is no call answers 401"), domains.nonsense),
    Probe(
        "1.13",
        Text("GET /domain?certId= lists only the domains of that certificate"),
        domains.certificate_filter,
    ),
    Probe("1.14", Text("a domain has the fields that are known of"), domains.fields),
    Probe(
        "1.15",
        Text("both calls list a bucket's domains, and kodo-config.qiniuapi.com answers for uc"),
        lists.bucket_domains,
    ),
    Probe("1.17", Text("certferry knows the state of every domain"), domains.states),
    Probe(
        "1.19",
        Text("pili.qiniuapi.com lists the account's hubs, under the Qiniu scheme"),
        lists.hubs,
    ),
    Probe("1.21", Text("a certificate with less than 30 days left is refused"), lists.gate),
    Probe("§2.3", Text("this machine's clock is right, to 30 seconds"), _clock, needs_keys=False),
    Probe(
        "1.2",
        Text("/cert/bind takes the QBox scheme, or after a 401 the other"),
        _untried(Text("not tried: it writes; its first use will tell")),
    ),
    Probe(
        "1.4, 1.5, 1.7, 1.10, 1.18",
        Text("how uploads and changes are refused, and how long they take"),
        _untried(Text("not tried: only an upload or a change shows it")),
    ),
    Probe(
        "1.16",
        Text("calls that certferry makes no use of"),
        _untried(Text("not called")),
    ),
)
