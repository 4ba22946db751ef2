"""The receipt beside delivered files, and the comparison of the files with the receipt.

A receiver of files (a directory here, or on a server) looks at the files, and this module judges
the found files. A missing receipt marks an unfinished delivery.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from msgspec import Struct
from msgspec.structs import asdict

from certferry.adapters.files import directory as pem
from certferry.core.certificates.certificate import FULLCHAIN, CertificateBundle
from certferry.core.desired.certificate import FileDelivery, Kind, Program
from certferry.core.observed.observation import Change, DomainState, ObservedDomain, ReceiverDrift
from certferry.core.reasons import Reason, ReasonCode
from certferry.errors import DeployError
from certferry.text import Text

RECEIPT = ".certferry"
"""The name of the receipt's file."""


class Receipt(Struct, frozen=True):
    """Proof of a completed delivery, stored beside the files."""

    #: The leaf's fingerprint.
    fingerprint: str
    #: The SHA-256 of each file, by name.
    digests: Mapping[str, str]
    #: The digest of the program `reload`; `None` without a program.
    reload: str | None = None

    @classmethod
    def of(cls, bundle: CertificateBundle, reload: Program | None) -> Receipt:
        """Return the receipt of a completed delivery."""
        digests = {name: pem.digest(content) for name, content in pem.contents(bundle).items()}
        program = None if reload is None else reload.digest
        return cls(bundle.certificate.fingerprint, digests, program)

    def encode(self) -> bytes:
        """Return the receipt as the content of the file."""
        return json.dumps(asdict(self), indent=1).encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes | None) -> Receipt | None:
        """Return the receipt; `None` if missing or corrupt, so the delivery is made again."""
        try:
            fields = json.loads(data or b"")
            return cls(str(fields["fingerprint"]), dict(fields["digests"]), fields["reload"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return None


class FoundCopy(Struct, frozen=True):
    """A delivered file, as found."""

    #: SHA-256 of the content, in lower-case hex.
    digest: str
    #: The found and the declared rights in words; `None` if the rights are as declared.
    rights: tuple[str, str] | None = None


class FoundDelivery(Struct, frozen=True):
    """The contents of a directory of certificate files."""

    #: Each of the four files; `None` for a missing file.
    files: Mapping[str, FoundCopy | None]
    #: The names that a killed run left as links of a change in progress.
    moving: frozenset[str]
    #: The content of the full chain, if any.
    fullchain: bytes | None
    #: The receipt, if any.
    receipt: Receipt | None

    def compared(self, delivery: FileDelivery) -> tuple[str | None, ReceiverDrift | None]:
        """Return the fingerprint of the leaf in the files, and the difference from a completed
        delivery. Either is `None` if there is none.
        """
        leaf, receipt, reload = _leaf(self.fullchain), self.receipt, delivery.reload
        if receipt is None:
            return leaf, None if leaf is None else self._unfinished(reload)
        held = leaf or receipt.fingerprint
        changes = tuple(self._changes(receipt.digests))
        if changes:
            sentence = Text("another program changed the delivered files")
            return held, ReceiverDrift(Reason(ReasonCode.DELIVERY_DRIFTED, sentence), changes)
        if reload is not None and receipt.reload != reload.digest:
            return held, self._unfinished(reload) if receipt.reload is None else _edited()
        return held, None

    def _changes(self, digests: Mapping[str, str] | None = None) -> Iterator[Change]:
        """Yield the differences from the delivery: missing files, other contents, other rights.

        Contents are compared only if `digests` are given.
        """
        for name in pem.NAMES:
            file = self.files.get(name)
            if name in self.moving:
                continue
            if file is None:
                yield Change(name, "missing", "delivered")
            elif digests is not None and file.digest != digests.get(name):
                yield Change(name, "changed", "delivered")
            elif file.rights is not None:
                yield Change(name, *file.rights)

    def _unfinished(self, reload: Program | None) -> ReceiverDrift:
        changes = [*self._changes()]
        sentence = Text("the certificate has not been fully delivered yet")
        if reload is not None:
            changes.append(Change("reload", "not run", "run"))
            sentence = Text("`reload` has not yet succeeded with the certificate")
        return ReceiverDrift(Reason(ReasonCode.DELIVERY_UNFINISHED, sentence), tuple(changes))


def _edited() -> ReceiverDrift:
    sentence = Text("`reload` was edited after its last run")
    reason = Reason(ReasonCode.PROGRAM_EDITED, sentence)
    return ReceiverDrift(reason, (Change("reload", "edited", "run"),))


def _leaf(fullchain: bytes | None) -> str | None:
    """Return the fingerprint of the first certificate in PEM; `None` if it is missing or
    unreadable.
    """
    try:
        leaf = x509.load_pem_x509_certificate(fullchain or b"")
    except ValueError:
        return None
    return leaf.fingerprint(SHA256()).hex()


def observed_domain(
    delivery: FileDelivery, receipt: Receipt | None, leaf: str | None, drift: ReceiverDrift | None
) -> ObservedDomain:
    """Return the observation of a usable directory."""
    fullchain = None
    # If the receipt is for another leaf, its digest is not the digest of this fullchain.
    if receipt is not None and receipt.fingerprint == leaf:
        fullchain = receipt.digests.get(FULLCHAIN)
    state = DomainState.READY
    return ObservedDomain(
        delivery.directory, Kind.FILES, state, leaf, drift=drift, fullchain_digest=fullchain
    )


def unusable(delivery: FileDelivery, problem: DeployError) -> ObservedDomain:
    """Return the observation of a directory that cannot be used."""
    state = DomainState.UNAVAILABLE
    return ObservedDomain(delivery.directory, Kind.FILES, state, None, problem=problem)


def as_before(error: DeployError) -> DeployError:
    """Return the error for a failed `test`, after the earlier files were put back."""
    message = Text("{problem}; the files are as before", problem=error.message)
    return DeployError(message, hint=error.hint, retry=error.retry)
