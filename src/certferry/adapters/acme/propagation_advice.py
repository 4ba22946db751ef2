"""What to look at when the challenge values are not seen everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from certferry.adapters.acme.propagation_status import NO_ANSWER, Heard, PropagationStatus
from certferry.core.fake_addresses import is_made_up
from certferry.text import Text


def made_up_among(addresses: Sequence[str]) -> list[str]:
    """Give the addresses that stand for no host. Loopback is left to closed worlds."""
    return sorted(one for one in set(addresses) if is_made_up(one, at_home=True))


def advice(status: PropagationStatus, inventing: Mapping[str, Sequence[str]]) -> Text:
    """Say what to look at when the values are not seen everywhere; `inventing` are the resolvers
    that have addresses for what does not exist, with these.
    """
    zones = sorted({one.zone for one in status.incomplete})
    addresses = {
        a for one in status.incomplete for host in one.hosts for a in status.addresses[host]
    }
    made_up = made_up_among(list(addresses))
    if made_up:
        return Text(
            "a proxy on this host answers DNS with made-up addresses ({addresses}); let DNS"
            " bypass it, or name resolvers that it leaves alone in [dns].resolvers or [dns].doh",
            addresses=made_up,
        )
    if inventing:
        return Text(
            "{resolvers} give addresses for a name that does not exist, so the name servers are"
            " perhaps not where they say: let DNS bypass the proxy or filter, or name other"
            " resolvers in [dns].resolvers",
            resolvers=[
                Text("{resolver} ({addresses})", resolver=resolver, addresses=found)
                for resolver, found in inventing.items()
            ],
        )
    heard = status.heard()
    if heard.keys() == {Heard.SILENCE}:
        return Text(
            "no name server answered at all: this host may not be allowed to ask them directly; let"
            " it send to port 53 outbound, UDP and TCP, of any address, or check the name servers"
            " of {zones}; where it may not, set `doh` or `wait` under [dns]",
            zones=zones,
        )
    if heard.keys() - {Heard.SILENCE} == {Heard.HEARSAY}:
        return Text(
            "a router or a proxy seems to answer in place of the name servers of {zones}:"
            " let this host's queries to port 53 bypass it, UDP and TCP, or set `doh` or `wait`"
            " under [dns]",
            zones=zones,
        )
    refusing = heard.get(Heard.REFUSAL, set()) | heard.get(Heard.HEARSAY, set())
    if refusing:
        return Text(
            "{servers} should serve {zones} and do not: correct the name servers at the registrar",
            servers=sorted(refusing),
            zones=zones,
        )
    missing = status.missing()
    if missing and set(missing.values()) == {NO_ANSWER} and Heard.ANSWER in heard:
        return Text(
            "this host gets no answer from {servers}, but one from other name servers of {zones}:"
            " let it send to port 53 outbound, UDP and TCP, of every address (firewall, security"
            " group)",
            servers=sorted(missing),
            zones=zones,
        )
    return Text(
        "check that {zones} is delegated to the provider that the record was written at, or give "
        "it longer with [dns].propagation_timeout",
        zones=zones,
    )
