"""Why a step is planned or refused: every code, each with its sentence where it is made."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from certferry.text import Text


class ReasonCode(StrEnum):
    """Stable words for programs; they appear in JSON."""

    # why a certificate is issued
    MISSING = "missing"
    NAMES_CHANGED = "names_changed"
    KEY_TYPE_CHANGED = "key_type_changed"
    RENEWAL_DUE = "renewal_due"
    UPLOAD_DEADLINE_PASSED = "upload_deadline_passed"
    REQUESTED = "requested"
    ORDERED = "ordered"
    FILES_CHANGED = "files_changed"
    REVOKED = "revoked"
    ROLLED_BACK = "rolled_back"
    # why another client's certificate needs the operator's attention
    OVERDUE = "overdue"
    # why a domain is deployed to
    NEW_CERTIFICATE = "new_certificate"
    HTTPS_OFF = "https_off"
    BINDING_UNKNOWN = "binding_unknown"
    SERVES_PREVIOUS = "serves_previous"
    SERVES_FOREIGN = "serves_foreign"
    SETTINGS_DRIFTED = "settings_drifted"
    CHANGE_FAILED = "change_failed"
    # why it is delivered to a receiver (or for one of those above)
    NOT_DELIVERED = "not_delivered"
    DELIVERED_PREVIOUS = "delivered_previous"
    HOLDS_FOREIGN = "holds_foreign"
    DELIVERY_DRIFTED = "delivery_drifted"
    DELIVERY_UNFINISHED = "delivery_unfinished"
    PROGRAM_EDITED = "program_edited"
    # why a certificate is withdrawn from a domain
    EDGES_REFUSE = "edges_refuse"
    # why it is looked at
    NOT_SEEN = "not_seen"
    # why a remote certificate goes
    SUPERSEDED = "superseded"
    UNUSED = "unused"
    # why DNS is cleaned
    LEFT_BEHIND = "left_behind"
    # why safety refuses
    NAME_NOT_COVERED = "name_not_covered"
    KEY_MISMATCH = "key_mismatch"
    CHAIN_INCOMPLETE = "chain_incomplete"
    TOO_LITTLE_LIFE = "too_little_life"
    COMMON_NAME_MISSING = "common_name_missing"
    EXPIRED = "expired"
    ISSUER_EXPIRED = "issuer_expired"
    STATE_OLDER = "state_older"
    FOUGHT_OVER = "fought_over"
    ACCOUNT_FULL = "account_full"


@dataclass(frozen=True, slots=True)
class Reason:
    """A code for programs and a sentence for people."""

    code: ReasonCode
    message: Text
