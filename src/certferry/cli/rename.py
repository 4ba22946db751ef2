"""`certferry rename`: a certificate goes on under the name that the file has for it now."""

from __future__ import annotations

import click

from certferry.cli.exits import Exit
from certferry.cli.options import Front, say


@click.command("rename")
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@click.pass_obj
def command(front: Front, old: str, new: str) -> Exit:
    """Keep the certificate of OLD under the name NEW.

    Rename it in the configuration file first. Nothing is issued, uploaded or bound again.
    """
    from certferry.cli.selection import read_settings, the_one_meant
    from certferry.errors import ConfigError
    from certferry.ports.progress import no_listener
    from certferry.reconcile.revoke import carry_over
    from certferry.reconcile.visit import held_lease
    from certferry.text import Text
    from certferry.wiring.adoption import adopt_into
    from certferry.wiring.clock import now
    from certferry.wiring.session import open_session
    from certferry.wiring.undeclared import forget, newest

    settings = read_settings(front, ())
    if old in {desired.lineage for desired in settings.certificates}:
        raise ConfigError(
            Text("{lineage} is still in the configuration file", lineage=old),
            hint=Text("give it its new name in the file first"),
        )
    new = the_one_meant(settings.certificates, new).lineage
    with open_session(settings, progress=no_listener, language=front.voice.language) as session:
        certificate = newest(old, session.state, now())
        if certificate is None:
            raise ConfigError(
                Text("{lineage} has no certificate that is valid", lineage=old),
                hint=Text("`certferry history` shows the names that there have been"),
            )
        versions = session.state.versions(old)
        number = next(v.number for v in versions if v.certificate == certificate)
        with held_lease(session.state, now, old):
            carry_over(old, new, certificate, session.state)
            adopted = adopt_into(session, new, session.state.bundle(old, number))
        if adopted:  # the new name answers for the certificate from now on
            forget(old, session.state)
    said = Text("{new} has the certificate of {old}, valid until {moment}.")
    if not adopted:
        said = Text("{new} has that certificate, or a later one. Nothing was changed.")
    return say(front, said.filled(old=old, new=new, moment=certificate.not_after))
