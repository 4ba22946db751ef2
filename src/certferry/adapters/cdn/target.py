"""The steps of a target that are alike at several vendors: with copies in a store, and with domains
at several parts of an account.

A vendor's class observes, retires, and binds a domain.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import ClassVar, Generic

from certferry.adapters.cdn.caches import Clock
from certferry.adapters.cdn.copies import Certificates, CertificateStore, Copies, StoredCertificate
from certferry.adapters.cdn.failure import (
    CallFailure,
    attempt,
    rejected,
    translating_errors,
    unless_refused,
)
from certferry.adapters.cdn.parts import Entry, P, Places, Stored, Wording, found_domain
from certferry.adapters.cdn.rights import failures_of, findings_of
from certferry.adapters.cdn.settling import Settler
from certferry.core.certificates.certificate import CertificateBundle, covered_by, short
from certferry.core.desired.certificate import DesiredHttps, Kind
from certferry.core.discovery.inventory import FoundCertificate, FoundDomain, Survey
from certferry.errors import CopyGone, Problem
from certferry.ports.adapter import Context
from certferry.ports.examination import Timed
from certferry.ports.state import AccountMemory
from certferry.ports.survey import Looked
from certferry.text import Text


class CopiesTarget:
    """A target with copies of certificates in a store. Safe to share between threads."""

    #: Whether a copy counts as in use until the certificate's end.
    lasting: ClassVar[bool] = False

    def __init__(
        self,
        service: Text,
        client: Timed,
        store: CertificateStore,
        settler: Settler,
        memory: AccountMemory,
        now: Callable[[], datetime],
        clock: Clock,
    ) -> None:
        self._service = service
        self._timed = client
        self._certificates = certificates = Certificates(store, clock)
        self._copies = Copies(store, service, certificates, settler, memory, now, self.lasting)

    @translating_errors()
    def upload(self, lineage: str, bundle: CertificateBundle) -> str:
        """See `ports.target.DeployTarget.upload`: an existing copy is adopted. Uploads to the
        account follow one another.
        """
        return self._copies.upload(lineage, bundle)

    def bind(self, domain: str, kind: Kind, remote_id: str, https: DesiredHttps) -> str | None:
        """See `ports.target.DeployTarget.bind`: also switch HTTPS on; return the id of the
        request.
        """
        try:
            with translating_errors():
                return self._bind(domain, kind, remote_id, https)
        except CopyGone:
            self._copies.forget(remote_id)
            raise

    @abstractmethod
    def _bind(self, domain: str, kind: Kind, remote_id: str, https: DesiredHttps) -> str | None:
        """Bind a domain. Raises `CallFailure` and `DeployError`."""

    @translating_errors()
    def clock_ahead(self) -> timedelta | None:
        """See `ports.examination.Timed.clock_ahead`."""
        return self._timed.clock_ahead()

    def forget_refusal(self) -> None:
        """See `ports.target.LimitedTarget`."""
        self._copies.forget_refusal()


class PartsTarget(CopiesTarget, Generic[P]):
    """The domains of one account with several parts. Safe to share between threads."""

    def __init__(
        self,
        wording: Wording,
        client: Timed,
        parts: Mapping[Kind, P],
        store: CertificateStore,
        context: Context,
        clock: Clock,
    ) -> None:
        settler, memory, now = Settler(context.pause), context.memory, context.now
        super().__init__(wording.service, client, store, settler, memory, now, clock)
        self._wording = wording
        self._parts = parts

    def _of(self, kind: Kind) -> Sequence[P]:
        """Return the parts of a kind. Raises `TargetRejected` for an unsupported kind."""
        if kind == Kind.AUTO:
            return tuple(self._parts.values())
        if kind not in self._parts:
            sentence = Text('certferry does not support domains of kind "{kind}"')
            raise rejected(sentence, self._wording.kinds, kind=kind.value)
        return (self._parts[kind],)

    def _copy(self, remote_id: str) -> StoredCertificate:
        """Return a copy. Raises `CopyGone` if the store lacks the copy."""
        copy = self._certificates.find(remote_id)
        if copy is None:
            sentence = Text("the store of {service} lacks certificate {id}")
            hint = Text("another program removed the certificate; the next run uploads it again")
            raise rejected(sentence, hint, CopyGone, service=self._service, id=short(remote_id))
        return copy

    def _user_of(self, copy: StoredCertificate, uses: Callable[[P, Entry], bool]) -> str | None:
        """Return a domain that uses a copy. A part closed to the keys is passed over."""
        for part in self._parts.values():
            listed = attempt(partial(part.listed, copy.names), self._wording.failure)
            if not isinstance(listed, Mapping):
                if not listed.lacks_right:
                    raise listed
                continue
            if user := next((name for name, entry in listed.items() if uses(part, entry)), None):
                return user
        return None

    @translating_errors()
    def survey(self, looked: Looked) -> Survey:
        """See `ports.survey.Surveyed.survey`."""
        failure, failures, places = self._wording.failure, list[CallFailure](), Places[P]()
        for part in self._parts.values():
            places.add(part, unless_refused(partial(part.listed, None), failure, failures) or {})
        if len(failures) == len(self._parts):
            raise failures[0]
        stored = unless_refused(self._certificates.all, failure, failures) or {}
        domains: list[FoundDomain] = []
        for part, entry in places.values():
            domains.append(found_domain(self._complete(part, entry, stored), stored))
            looked(len(domains), len(places))
        certificates = (
            FoundCertificate(record.remote_id, record.label, record.shown_names, record.ends)
            for record in stored.values()
        )
        unread = tuple(dict.fromkeys(failure.error for failure in failures))
        return Survey(tuple(domains), unread, tuple(certificates))

    def _complete(self, part: P, entry: Entry, stored: Stored) -> Entry:
        """Return a listed domain with the bound certificate. Targets whose lists omit bound
        certificates override this method.
        """
        del self, part, stored
        return entry

    @translating_errors()
    def examine(self, account: str) -> tuple[Problem, ...]:
        """See `ports.examination.Examined.examine`."""
        parts = {part.called: part for part in self._parts.values()}
        calls: dict[str, Callable[[], object]] = {
            **{name: partial(part.listed, None) for name, part in parts.items()},
            self._wording.store: self._certificates.all,
        }
        failures = failures_of(calls, self._wording.failure)
        listed = [part for name, part in parts.items() if name not in failures]
        return (
            *(problem for part in listed for problem in self._read_further(account, part)),
            *findings_of(account, calls, failures, self._wording, self._certificates),
        )

    def _read_further(self, account: str, part: P) -> Iterable[Problem]:
        """Make further reading calls at a part, and yield a finding for each refusal."""
        del self, account, part
        return ()

    @translating_errors()
    def cnames(self) -> Mapping[str, str]:
        """See `ports.examination.PointedAt.cnames`. A part closed to the keys is left out:
        `examine` reports the part.
        """
        places = Places[P]()
        for part in self._parts.values():
            listed = attempt(partial(part.listed, None), self._wording.failure)
            places.add(part, listed if isinstance(listed, Mapping) else {})
        return {name: entry.cname for name, (_, entry) in places.items() if entry.cname}


def must_cover(names: Collection[str] | None, domain: str, remote_id: str) -> None:
    """Raise `TargetRejected` for a certificate with known names that does not cover a domain."""
    if names is not None and not covered_by(names, domain):
        sentence = Text("the certificate {id} does not cover {domain}")
        hint = Text(
            "add the domain to `names`; the wildcard domain *.example.com needs *.example.com"
            " itself"
        )
        raise rejected(sentence, hint, id=short(remote_id), domain=domain)
