"""What is said of a domain that a certificate is brought to: why, and what is still to be seen."""

from __future__ import annotations

from certferry.core.abbreviations import short
from certferry.core.reasons import Reason, ReasonCode
from certferry.errors import CertferryError
from certferry.text import Text

BINDING_UNKNOWN = Reason(
    ReasonCode.BINDING_UNKNOWN, Text("the target does not tell which certificate is bound")
)
HTTPS_OFF = Reason(ReasonCode.HTTPS_OFF, Text("HTTPS is off → will be turned on"))
SERVES_PREVIOUS = Reason(ReasonCode.SERVES_PREVIOUS, Text("an earlier certificate is bound"))
SETTINGS_DRIFTED = Reason(ReasonCode.SETTINGS_DRIFTED, Text("settings differ from the file"))

NOT_SEEN = Reason(ReasonCode.NOT_SEEN, Text("not yet seen at every address"))
NOT_RECORDED = Reason(ReasonCode.NOT_SEEN, Text("served by every address; not recorded yet"))


def change_failed(problem: CertferryError) -> Reason:
    """The target could not carry out the last change."""
    sentence = Text("the last change failed: {problem}", problem=problem.message)
    return Reason(ReasonCode.CHANGE_FAILED, sentence)


def serves_foreign(remote_id: str) -> Reason:
    """A certificate is bound that is none of the lineage's."""
    sentence = Text("the bound certificate was not uploaded for it ({id})", id=short(remote_id))
    return Reason(ReasonCode.SERVES_FOREIGN, sentence)
