"""The CDN and DCDN domains of a Qiniu account: listed, read and bound (docs/facts/qiniu.md §5)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import partial

from msgspec import Struct

from certferry.adapters.cdn.answers import name_here
from certferry.adapters.cdn.copies import StoredCertificate
from certferry.adapters.cdn.failure import attempt, rejected
from certferry.adapters.cdn.settling import Settler
from certferry.adapters.qiniu import errors, records
from certferry.adapters.qiniu.account import AT_WORK, Details
from certferry.adapters.qiniu.qiniu_client import QiniuClient
from certferry.core.certificates.certificate import covered_by
from certferry.core.desired.certificate import DesiredHttps
from certferry.core.observed.observation import DomainState, ObservedDomain
from certferry.core.observed.records import TargetTask
from certferry.core.redaction import quoted
from certferry.errors import DeployError, TargetBusy, TargetInUse
from certferry.text import LINEAGE, Text


class CdnDomains(Struct, frozen=True):
    """An account's CDN and DCDN domains. Methods raise `QiniuFailure` and `DeployError`."""

    client: QiniuClient
    details: Details
    settler: Settler

    def has(self, domain: str) -> bool:
        """Return whether the account's list has the domain."""
        return domain in self.details.listed.get()

    def served_by_themselves(self) -> dict[str, records.DomainItem]:
        """Return the listed domains that can have a certificate of their own, by name."""
        listed = self.details.listed.get()
        return {name: item for name, item in listed.items() if item.by_itself}

    def read(
        self, domains: Iterable[str], *, anew: bool
    ) -> Iterator[tuple[str, records.DomainRecord | errors.QiniuFailure]]:
        """Yield the detail, or the failure, of each domain.

        A detail may come from the cache. With `anew`, each detail comes from Qiniu, because the
        list may not yet show another run's change. Raises only a failure that the next domain would
        share: refused keys, a wrong clock, a rate limit, a missing connection, or a second silence
        in a row.
        """
        read_detail = self.details.read_now if anew else self.details.read
        was_silent = False
        for domain in domains:
            came = attempt(partial(read_detail, domain), errors.QiniuFailure)
            is_silent = False
            if isinstance(came, errors.QiniuFailure):
                is_silent = came.silent
                if came.is_common or (was_silent and is_silent):
                    raise came
            was_silent = is_silent
            yield domain, came

    def bind(self, domain: str, remote_id: str, https: DesiredHttps) -> str | None:
        """Bind a certificate with the desired settings, and switch HTTPS on if HTTPS is off.

        Return the X-Reqid; `None` if the domain is already as desired, or the X-Reqid is unknown.
        Raises `TargetBusy` while Qiniu works on the domain, and `TargetRejected` if the domain
        cannot be changed.
        """
        record = self.details.read_now(domain)
        must_be_at_rest(domain, record)
        conf = wanted_conf(record, remote_id, https)
        if is_in_force(record, conf):
            return None
        self.details.forget(domain)
        request_id = self.settler.until_settled(
            lambda: self._change(record, conf, https), lambda: self._is_taken(record, conf)
        )
        self.details.note_change(domain, record)
        return request_id or None

    def must_not_use(self, certificate: StoredCertificate, label: str) -> None:
        """Raise `TargetInUse` if a domain covered by the certificate is bound to the certificate.

        A domain that cannot be read is left out: Qiniu itself refuses to remove a certificate that
        a CDN domain uses.
        """
        names, cert_id = certificate.names or (), certificate.remote_id
        covered = [name for name in self.details.listed.get() if covered_by(names, name)]
        for domain, came in self.read(covered, anew=False):
            if not isinstance(came, errors.QiniuFailure) and came.bound == cert_id:
                sentence, label = Text("{domain} is still bound to {label}"), label or cert_id
                raise rejected(
                    sentence, errors.advice_on(400611), TargetInUse, domain=domain, label=label
                )

    def _change(
        self, record: records.DomainRecord, conf: records.HttpsConf, https: DesiredHttps
    ) -> str:
        """Call `httpsconf` for a domain with HTTPS, else `sslize`. If Qiniu refuses `httpsconf`
        because HTTPS is off, call `sslize` (§5.4).

        Return the X-Reqid; "" if Qiniu answers that nothing would change.
        """
        write = self.client.httpsconf if record.has_https else self.client.sslize
        try:
            return write(record.name, conf)
        except errors.QiniuFailure as failure:
            if failure.code in errors.HTTPS_IS_OFF and record.has_https:
                return self.client.sslize(record.name, first_conf(conf.cert_id, https))
            if failure.code != errors.UNCHANGED:
                raise
        return ""

    def _is_taken(self, before: records.DomainRecord, conf: records.HttpsConf) -> str | None:
        """Return "" in place of the unknown X-Reqid if the change was made; `None` otherwise.

        The domain was at rest before the call. Therefore work of Qiniu on the domain counts as our
        change.
        """
        now = self.client.read_domain(before.name)
        return "" if now.operating_state == AT_WORK or is_in_force(now, conf) else None


_IS_FROZEN = (Text("{domain} is frozen at Qiniu"), 500923)
_UNUSABLE = {
    "frozen": _IS_FROZEN,
    "notIcpFrozen": _IS_FROZEN,
    "offlined": (Text("{domain} is offline at Qiniu"), 400320),
    "deleted": (Text("{domain} is deleted at Qiniu"), 404001),
    "waitCNAME": (Text("{domain} waits at Qiniu for its CNAME"), 404904),
}
"""A state in which a domain cannot be changed → the sentence, and the code whose advice fits."""
SWITCHED_OFF = frozenset(_UNUSABLE) - {"waitCNAME"}
"""States of domains closed to visitors until the operator acts at Qiniu (§5.6)."""
_STATES = {
    "success": DomainState.READY,
    AT_WORK: DomainState.PROCESSING,
    "failed": DomainState.FAILED,
}
KNOWN_STATES = frozenset({*_UNUSABLE, *_STATES})


def observe(domain: str, record: records.DomainRecord) -> ObservedDomain:
    """Return the observation of a domain from Qiniu's detail."""
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


def _task(record: records.DomainRecord) -> TargetTask:
    """Return the domain's last change, for tickets to Qiniu's support.

    `since` is a guess: `modifyAt` may be another moment than the start (§5.2).
    """
    return TargetTask(
        state=record.operating_state or "",
        operation=record.operation_type,
        since=_moment_written(record.modify_at),
        number=str(record.oper_task_id or "") or None,
    )


def _moment_written(value: object) -> datetime | None:
    """Read a moment of RFC 3339 with an offset; return `None` for anything else."""
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def why_unusable(domain: str, record: records.DomainRecord) -> DeployError | None:
    """Return the error of a domain whose type or state forbids a change; `None` for any other
    domain, even while Qiniu works on the domain.
    """
    state = "frozen" if record.uid_is_freezed else record.operating_state or ""
    if record.type == "pan":
        parent = name_here(record.pare_domain or "")
        hint = Text("list the wildcard domain under `domains` instead")
        sentence = Text("{domain} takes its certificate from {parent}")
        return rejected(sentence, hint, domain=domain, parent=parent)
    if record.type == "test":
        hint = Text("list a domain of your own under `domains`")
        return rejected(Text("{domain} is a trial domain provided by Qiniu"), hint, domain=domain)
    if state in _UNUSABLE:
        sentence, code = _UNUSABLE[state]
        return rejected(sentence, errors.advice_on(code), domain=domain)
    # During a change, the flag says only that a second change is refused meanwhile.
    if record.could_operate_by_self is False and state != AT_WORK:
        sentence = Text("{domain} is locked against self-service at Qiniu")
        return rejected(sentence, errors.advice_on(400407), domain=domain)
    if state not in _STATES:
        hint = Text("check the domain in Qiniu's console")
        sentence = Text("certferry does not know the state of {domain} at Qiniu")
        return rejected(sentence, hint, domain=domain)
    return None


def failed_change(record: records.DomainRecord) -> DeployError | None:
    """Return the error of a domain's last change; `None` unless the change failed."""
    if record.operating_state != "failed":
        return None
    description = record.operating_state_desc or "—"
    return rejected(
        Text("Qiniu could not carry out {operation}: {description}"),
        _ADVICE.get(description, _SEE_CONSOLE),
        operation=record.operation_type or "—",
        # Quoted words are left out of the history, because these words may contain a secret. The
        # words in our table are harmless.
        description=description if description in _ADVICE else quoted(description),
    )


_SEE_CONSOLE = Text("check the domain in Qiniu's console, or ask Qiniu's support")
_ADVICE = {
    "verify https crt fail": Text(
        "Qiniu rejected the certificate; try once more: `certferry sync {lineage}`. If Qiniu"
        " rejects the certificate again, issue a new one: `certferry sync --renew {lineage}`, or"
        " have the certificate's client issue it",
        lineage=LINEAGE,
    ),
    "domain have no icp": Text(
        "domains served in mainland China require an ICP filing: file the domain, or choose"
        " another region"
    ),
}


def must_be_at_rest(domain: str, record: records.DomainRecord) -> None:
    """Raise `TargetBusy` while Qiniu works on a domain, `TargetRejected` for an unusable domain."""
    unusable = why_unusable(domain, record)
    if unusable is not None:
        raise unusable
    if record.operating_state == AT_WORK:
        sentence = Text("Qiniu is still carrying out an earlier change of {domain} ({operation})")
        operation = record.operation_type or "—"
        hint = errors.advice_on(400030)
        raise rejected(sentence, hint, TargetBusy, domain=domain, operation=operation)


def wanted_conf(
    record: records.DomainRecord, cert_id: str, desired: DesiredHttps
) -> records.HttpsConf:
    """Return the body to send: the certificate, each desired setting, and the present value of each
    other setting.

    A setting that Qiniu hides is left out, because Qiniu would replace the setting by our guess
    (§5.3). For a domain without HTTPS, return the body of `first_conf`.
    """
    if not record.has_https:
        return first_conf(cert_id, desired)
    present = record.settings
    return records.HttpsConf(
        cert_id=cert_id,
        force_https=present.force_https if desired.force_https is None else desired.force_https,
        http2_enable=present.http2 if desired.http2 is None else desired.http2,
        tls_versions=desired.tls_versions or present.tls_versions,
    )


def first_conf(cert_id: str, desired: DesiredHttps) -> records.HttpsConf:
    """Return the body for switching HTTPS on. Redirect and HTTP/2 are off unless desired."""
    return records.HttpsConf(
        cert_id, bool(desired.force_https), bool(desired.http2), desired.tls_versions
    )


def is_in_force(record: records.DomainRecord, conf: records.HttpsConf) -> bool:
    """Return whether a domain has the certificate and the settings in `conf`. Return `False` after
    a failed change, whatever the detail shows.
    """
    present = record.settings
    versions = None if conf.tls_versions is None else tuple(sorted(conf.tls_versions))
    return (
        record.operating_state != "failed"
        and record.bound == conf.cert_id
        and conf.force_https in {None, bool(present.force_https)}
        and conf.http2_enable in {None, bool(present.http2)}
        and present.tls_versions == versions
    )
