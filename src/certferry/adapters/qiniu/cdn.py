"""The CDN and DCDN domains of a Qiniu account: found, read, bound (docs/facts/qiniu.md §5)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import partial

from certferry.adapters.qiniu.account import AT_WORK, Details, Settler
from certferry.adapters.qiniu.client import QiniuClient
from certferry.adapters.qiniu.errors import (
    HTTPS_IS_OFF,
    UNCHANGED,
    QiniuFailure,
    advice_on,
    attempt,
    rejected,
)
from certferry.adapters.qiniu.records import (
    CertificateRecord,
    DomainItem,
    DomainRecord,
    HttpsConf,
    name_here,
)
from certferry.core.certificates.certificate import covered_by
from certferry.core.desired.certificate import DesiredHttps
from certferry.core.observed.observation import DomainState, ObservedDomain
from certferry.core.observed.records import TargetTask
from certferry.core.redaction import quoted, quoted_code
from certferry.errors import DeployError, TargetBusy, TargetInUse
from certferry.text import LINEAGE, Text


class CdnDomains:
    """Raises `QiniuFailure` and `DeployError`."""

    def __init__(self, client: QiniuClient, details: Details, settler: Settler) -> None:
        self._client = client
        self._details = details
        self._settler = settler

    def has(self, domain: str) -> bool:
        """Return whether the account has such a domain."""
        return domain in self._details.listed.get()

    def served_by_themselves(self) -> dict[str, DomainItem]:
        """Return the domains that take a certificate of their own, by name."""
        listed = self._details.listed.get()
        return {name: item for name, item in listed.items() if item.by_itself}

    def read(
        self, domains: Iterable[str], *, anew: bool
    ) -> Iterator[tuple[str, DomainRecord | QiniuFailure]]:
        """Read domains, by what was read of them before unless that is to be read `anew`: also the
        list may lag behind what another run has just changed.

        The failure of one hides no other. Only what the next one would fail of as well is raised:
        refused keys, a rate limit, no connection, and silence twice in a row, since each takes
        minutes.
        """
        read = self._details.read_now if anew else self._details.read
        was_silent = False
        for domain in domains:
            came = attempt(partial(read, domain))
            is_silent = False
            if isinstance(came, QiniuFailure):
                is_silent = came.silent
                if came.is_common or (was_silent and is_silent):
                    raise came
            was_silent = is_silent
            yield domain, came

    def bind(self, domain: str, remote_id: str, https: DesiredHttps) -> str | None:
        """Switch HTTPS on, or change it, unless the domain is as desired already; return the
        X-Reqid of the change, where there is one.
        """
        record = self._details.read_now(domain)
        must_be_at_rest(domain, record)
        conf = wanted_conf(record, remote_id, https)
        if is_in_force(record, conf):
            return None
        self._details.forget(domain)
        request_id = self._settler.until_settled(
            lambda: self._change(record, conf, https), lambda: self._is_taken(record, conf)
        )
        self._details.note_change(domain, record)
        return request_id or None

    def must_not_use(self, certificate: CertificateRecord, label: str) -> None:
        """Raise `TargetInUse` for a certificate that a domain which it covers is bound to, as far
        as the domains can be read: Qiniu refuses to remove it as well.
        """
        names, cert_id = certificate.dnsnames or (), certificate.certid
        covered = [one for one in self._details.listed.get() if covered_by(names, one)]
        for domain, came in self.read(covered, anew=False):
            if not isinstance(came, QiniuFailure) and came.bound == cert_id:
                sentence, label = Text("{domain} is still bound to {label}"), label or cert_id
                raise rejected(sentence, advice_on(400611), TargetInUse, domain=domain, label=label)

    def _change(self, record: DomainRecord, conf: HttpsConf, https: DesiredHttps) -> str:
        """Write, choosing the call by what the domain has. One without HTTPS that was read as one
        with it is switched on in the same run (§5.4).
        """
        write = self._client.httpsconf if record.has_https else self._client.sslize
        try:
            return write(record.name, conf)
        except QiniuFailure as failure:
            if failure.code in HTTPS_IS_OFF and record.has_https:
                return self._client.sslize(record.name, first_conf(conf.cert_id, https))
            if failure.code != UNCHANGED:
                raise
        return ""

    def _is_taken(self, before: DomainRecord, conf: HttpsConf) -> str | None:
        """Return a request's id, which is unknown, when a change went through: the domain was at
        rest before, so work means ours.
        """
        now = self._client.read_domain(before.name)
        return "" if now.operating_state == AT_WORK or is_in_force(now, conf) else None


_IS_FROZEN = (Text("{domain} is frozen at Qiniu"), 500923)
_UNUSABLE = {
    "frozen": _IS_FROZEN,
    "notIcpFrozen": _IS_FROZEN,
    "offlined": (Text("{domain} is offline at Qiniu"), 400320),
    "deleted": (Text("{domain} is deleted at Qiniu"), 404001),
    "waitCNAME": (Text("{domain} waits at Qiniu for its CNAME"), 404904),
}
"""States in which a domain cannot be changed, and the code that the advice belongs to."""
SWITCHED_OFF = frozenset(_UNUSABLE) - {"waitCNAME"}
"""States of domains that serve no visitors until the operator acts at Qiniu (§5.6)."""
_STATES = {
    "success": DomainState.READY,
    AT_WORK: DomainState.PROCESSING,
    "failed": DomainState.FAILED,
}
KNOWN_STATES = frozenset({*_UNUSABLE, *_STATES})


def observe(domain: str, record: DomainRecord) -> ObservedDomain:
    """Return what Qiniu shows of a domain."""
    unusable = why_unusable(domain, record)
    state = _STATES.get(record.operating_state or "", DomainState.UNAVAILABLE)
    return ObservedDomain(
        domain=domain,
        kind=record.kind,
        state=state if unusable is None else DomainState.UNAVAILABLE,
        bound=record.bound,
        https=record.settings,
        problem=unusable or failed_change(record),
        binding_hidden=record.hides_https,
        task=_task(record) if state in {DomainState.PROCESSING, DomainState.FAILED} else None,
    )


def _task(record: DomainRecord) -> TargetTask:
    """Return the change in progress, or the last one: a ticket quotes it. That
    `modifyAt` is when it began is a guess from what the field is called; our own record counts
    beside it (§5.2).
    """
    return TargetTask(
        state=quoted(record.operating_state or ""),
        operation=quoted(record.operation_type or "") or None,
        since=_moment_written(record.modify_at),
        number=quoted_code(str(record.oper_task_id or "")) or None,
    )


def _moment_written(written: object) -> datetime | None:
    """Read RFC 3339; anything else, or a moment without offset, says nothing."""
    try:
        moment = datetime.fromisoformat(str(written))
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def why_unusable(domain: str, record: DomainRecord) -> DeployError | None:
    """Return why a domain cannot be changed, however long one waits; `None` when it can."""
    state = "frozen" if record.uid_is_freezed else record.operating_state or ""
    if record.type == "pan":
        parent = name_here(record.pare_domain or "")
        hint = Text("name the wildcard domain under `domains` in its place")
        sentence = Text("{domain} takes its certificate from {parent}")
        return rejected(sentence, hint, domain=domain, parent=parent)
    if record.type == "test":
        hint = Text("name a domain of yours under `domains`")
        return rejected(Text("{domain} is a trial domain of Qiniu's own"), hint, domain=domain)
    if state in _UNUSABLE:
        sentence, code = _UNUSABLE[state]
        return rejected(sentence, advice_on(code), domain=domain)
    # While a change is carried out, whether another would be allowed says nothing about later.
    if record.could_operate_by_self is False and state != AT_WORK:
        sentence = Text("{domain} cannot be changed by self-service at Qiniu")
        return rejected(sentence, advice_on(400407), domain=domain)
    if state not in _STATES:
        hint = Text("look at the domain in Qiniu's console")
        sentence = Text("{domain} is {state} at Qiniu")
        return rejected(sentence, hint, domain=domain, state=quoted(state or "—"))
    return None


def failed_change(record: DomainRecord) -> DeployError | None:
    """Return why the last change of a domain failed, `None` when it did not."""
    if record.operating_state != "failed":
        return None
    description = record.operating_state_desc or "—"
    return rejected(
        Text("Qiniu could not carry out {operation}: {description}"),
        _ADVICE.get(description, _SEE_CONSOLE),
        operation=quoted(record.operation_type or "—"),
        # Known words are no foreign ones, and the history may keep them.
        description=description if description in _ADVICE else quoted(description),
    )


_SEE_CONSOLE = Text("look at the domain in Qiniu's console, or ask its support")
_ADVICE = {
    "verify https crt fail": Text(
        "Qiniu rejected the certificate; a new one is needed: `certferry sync --renew"
        " {lineage}`, or from the client that makes it",
        lineage=LINEAGE,
    ),
    "domain have no icp": Text(
        "domains served in mainland China need an ICP filing: file it, or set another area"
    ),
}


def must_be_at_rest(domain: str, record: DomainRecord) -> None:
    """Refuse to write to a domain that Qiniu works on, or that cannot be changed.

    Raises `TargetBusy`, `TargetRejected`.
    """
    unusable = why_unusable(domain, record)
    if unusable is not None:
        raise unusable
    if record.operating_state == AT_WORK:
        sentence = Text("Qiniu is still carrying out an earlier change of {domain} ({operation})")
        operation = quoted(record.operation_type or "—")
        hint = advice_on(400030)
        raise rejected(sentence, hint, TargetBusy, domain=domain, operation=operation)


def wanted_conf(record: DomainRecord, cert_id: str, desired: DesiredHttps) -> HttpsConf:
    """Return what to send: the certificate, the desired settings, and all others as they are. What
    the domain does not show is not sent: a guess would replace it (§5.3).
    """
    if not record.has_https:
        return first_conf(cert_id, desired)
    found = record.settings
    return HttpsConf(
        cert_id=cert_id,
        force_https=found.force_https if desired.force_https is None else desired.force_https,
        http2_enable=found.http2 if desired.http2 is None else desired.http2,
        tls_versions=desired.tls_versions or found.tls_versions,
    )


def first_conf(cert_id: str, desired: DesiredHttps) -> HttpsConf:
    """Return what to send to switch HTTPS on: visitors are redirected only if that is declared."""
    return HttpsConf(cert_id, bool(desired.force_https), bool(desired.http2), desired.tls_versions)


def is_in_force(record: DomainRecord, conf: HttpsConf) -> bool:
    """Return whether a domain is as desired already. One whose change failed may show the desired
    settings and serve others.
    """
    found = record.settings
    versions = None if conf.tls_versions is None else tuple(sorted(conf.tls_versions))
    return (
        record.operating_state != "failed"
        and record.bound == conf.cert_id
        and conf.force_https in {None, bool(found.force_https)}
        and conf.http2_enable in {None, bool(found.http2)}
        and found.tls_versions == versions
    )
