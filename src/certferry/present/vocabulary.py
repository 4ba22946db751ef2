"""Words and phrases that every output shares, so that one thing has one name everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from certferry.text import Text, verbatim

if TYPE_CHECKING:  # the core loads the crypto library, which `--help` must not
    from certferry.core.desired.certificate import Kind

ERROR = Text("error: ")
WARNING = Text("warning: ")
HINT = Text("hint: ")

WORDS = {
    word.template: word
    for word in (
        # actions
        *(Text("issue"), Text("adopt"), Text("deploy"), Text("verify"), Text("rollback")),
        *(Text("retire"), Text("clean"), Text("look")),
        # outcomes, and what stands in a plan's way
        *(Text("done"), Text("unchanged"), Text("waiting"), Text("failed"), Text("refused")),
        *(Text("skipped"), Text("blocked"), Text("unread"), Text("kept"), Text("in vain")),
        # standings
        *(Text("verified"), Text("propagating"), Text("processing"), Text("bound")),
        *(Text("pending"), Text("drifted"), Text("unknown"), Text("overdue")),
        # whose a certificate is, and how a domain stands in the words of a CDN
        *(Text("ours"), Text("foreign"), Text("free"), Text("frozen"), Text("offlined")),
        *(Text("deleted"), Text("notIcpFrozen"), Text("waitCNAME")),
        # what a change is about, and from what to what, where that is no setting
        *(Text("certificate"), Text("command"), Text("missing"), Text("changed")),
        *(Text("delivered"), Text("not run"), Text("edited"), Text("run")),
        # what has happened
        *(Text("issued"), Text("issue failed"), Text("adopted"), Text("undeclared")),
        *(Text("forgotten"), Text("adopt failed"), Text("uploaded"), Text("deployed")),
        *(Text("deploy failed"), Text("retired"), Text("rolled back"), Text("rollback refused")),
        *(Text("drift found"), Text("drift over"), Text("ca failed"), Text("revoked")),
        # what the history keeps of it
        *(Text("found"), Text("issuer"), Text("serial"), Text("reason"), Text("label")),
        # services that are called otherwise in Chinese
        *(Text("DingTalk"), Text("Feishu"), Text("WeCom"), Text("ServerChan"), Text("Mail")),
        *(Text("Command"), Text("Qiniu"), Text("Tencent Cloud"), Text("Alibaba Cloud DNS")),
        Text("your own program"),
    )
}
"""Words that programs read too, for people."""


def one_or_many(count: int, one: Text, many: Text) -> Text:
    """Choose between "1 deployment" and "{count} deployments"."""
    return one if count == 1 else many


def once(subject: str | None, words: str) -> str:
    """Leave out a subject that the line has named already: details often begin with theirs."""
    return words if subject is None else words.removeprefix(f"{subject}: ")


def at_target(target: str, domain: str | None) -> Text:
    """Name a domain at its target, or the target as a whole."""
    if domain is None:
        return verbatim(target)
    return Text("{target} → {domain}", target=target, domain=domain)


def of_lineage(lineage: str, target: str, domain: str) -> Text:
    """Name a certificate, or a place of it: `img: qiniu → img.example.com`."""
    if not target:
        return verbatim(lineage)
    where = at_target(target, domain or None)
    return Text("{lineage}: {where}", lineage=lineage, where=where)


def in_brackets(kind: Kind) -> str:
    """Add what a domain is, where it is not what most are."""
    return f" ({kind.value})" if kind.is_target_specific else ""


def copy_at_target(label: str | None, target: str | None) -> Text:
    """Name a target's copy of a certificate."""
    return Text("{label} at {target}", label=label, target=target)
