"""A proposal as a file."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from certferry.config.load import load_text
from certferry.config.propose import NewAccount, Preamble, quoted, text_of
from certferry.core.certificates.certificate import KeyType
from certferry.core.desired.certificate import FileDelivery, Kind, PemFiles
from certferry.core.discovery.inventory import FoundDomain
from certferry.core.discovery.proposal import (
    Access,
    LeftOut,
    Places,
    Proposal,
    ProposedCertificate,
    ProposedDeployment,
    propose_for_domains,
)
from certferry.text import Text
from certferry_sandbox.testing.certificates import make_bundle

PATH = Path("/etc/certferry/certferry.toml")
ENVIRON = {"HOME": "/nowhere"}
ACCOUNTS = (
    NewAccount("dnspod", "dnspod", {"id": "env:DP_Id", "token": "env:DP_Key"}),
    NewAccount("qiniu", "qiniu", {"access_key": "env:AK", "secret_key": "env:SK"}),
)
DRAFT = Preamble(directory="https://acme-v02.api.letsencrypt.org/directory", accounts=ACCOUNTS)

LABEL = st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True)
NAME = st.lists(LABEL, min_size=1, max_size=3).map(lambda labels: ".".join([*labels, "com"]))
DOMAIN = st.builds(lambda name, wild: f"*.{name}" if wild else name, NAME, st.booleans())
WORDS = st.text(max_size=40)
PATHS = st.text(
    st.characters(exclude_characters="/.", exclude_categories=["C", "Z"]), min_size=1, max_size=20
).map(lambda words: f"/{words}")
DEPLOYMENT = st.one_of(
    st.builds(
        ProposedDeployment,
        st.just("qiniu"),
        st.none() | st.lists(DOMAIN, min_size=1, max_size=30, unique=True).map(tuple),
    ),
    st.builds(
        lambda reload, access: ProposedDeployment("files", None, "/opt/ssl", reload, access),
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20),
        st.builds(
            Access,
            st.none() | st.sampled_from(["www-data", "1000"]),
            st.none() | st.just("ssl-cert"),
            st.sampled_from([0o644, 0o664, 0o400]),
            st.sampled_from([0o600, 0o640, 0o400]),
        ),
    ),
)
ISSUED = st.builds(
    lambda names, key, deployments, remarks: ProposedCertificate(
        "x", tuple(names), "dnspod", key, None, tuple(deployments), tuple(map(_said, remarks))
    ),
    st.lists(NAME, min_size=1, max_size=30, unique=True),
    st.none() | st.sampled_from(KeyType),
    st.lists(DEPLOYMENT, max_size=1),
    st.lists(WORDS, max_size=2),
)
BUNDLE = make_bundle("img.example.com", not_before=datetime(2026, 11, 25, tzinfo=UTC))


def _said(words: str) -> Text:
    return Text("{words}", words=words)


@given(
    certificates=st.lists(ISSUED, max_size=4),
    left_out=st.lists(
        st.builds(
            lambda name, why, one: LeftOut(name, _said(why), one), WORDS, WORDS, st.none() | ISSUED
        )
    ),
    email=st.none() | st.just("ops@example.com"),
)
def test_whatever_is_proposed_is_read_as_it_was_meant(
    certificates: list[ProposedCertificate], left_out: list[LeftOut], email: str | None
) -> None:
    """Every generated file loads and declares what was proposed; comments stay comments."""
    named = tuple(
        ProposedCertificate(
            f"n{number}", one.names, one.dns, one.key_type, None, one.deployments[:1], one.remarks
        )
        for number, one in enumerate(certificates)
    )
    # A directory and a domain hold one certificate.
    kept = named[:1] + tuple(
        one
        for one in named[1:]
        if not any(deployment.directory or deployment.domains for deployment in one.deployments)
    )
    preamble = Preamble(directory=DRAFT.directory, email=email, accounts=ACCOUNTS)

    text = text_of(preamble, Proposal(kept, tuple(left_out)), str)

    settings = load_text(text, PATH, ENVIRON)
    assert email == settings.acme.email
    assert [(one.lineage, one.names, one.key_type or KeyType.EC256) for one in kept] == [
        (wish.lineage, wish.names, wish.key_type) for wish in settings.certificates
    ]
    for one, wish in zip(kept, settings.certificates, strict=True):
        assert [d.to for d in one.deployments] == [d.target for d in wish.deployments]
        assert [d.domains for d in one.deployments if d.to == "qiniu"] == [
            d.domains for d in wish.deployments if d.target == "qiniu" and not d.has_patterns
        ]
        assert [d.access for d in one.deployments if d.to == "files"] == [
            Access(there.owner, there.group, there.mode, there.key_mode)
            for there in (d.delivery for d in wish.deployments)
            if isinstance(there, FileDelivery)
        ]


@given(one=ISSUED)
def test_what_is_left_out_can_be_declared_after_all(one: ProposedCertificate) -> None:
    """It is a comment as it stands; without the # it is what it would have been."""
    left = LeftOut("x", Text("not now"), one)

    text = text_of(DRAFT, Proposal((), (left,)), str)

    assert () == load_text(text, PATH, ENVIRON).certificates
    head, _, tail = text.partition("# [[certificates]]\n")
    declared = head + re.sub("^# ?", "", f"# [[certificates]]\n{tail}", flags=re.MULTILINE)
    [wish] = load_text(declared, PATH, ENVIRON).certificates
    assert (one.names, one.dns) == (wish.names, wish.dns)
    assert [d.to for d in one.deployments] == [d.target for d in wish.deployments]


@given(fullchain=PATHS, privkey=PATHS)
def test_files_that_are_ferried_may_lie_anywhere(fullchain: str, privkey: str) -> None:
    """A path with quotes, spaces or Chinese in it is still that path."""
    files = PemFiles(fullchain, privkey)
    one = ProposedCertificate("img", files=files, adopts=BUNDLE)

    text = text_of(DRAFT, Proposal((one,)), str)

    assert files == load_text(text, PATH, ENVIRON).certificates[0].files
    assert "# It is for img.example.com." in text


@given(words=st.text(st.characters(exclude_categories=["Cs"])))
def test_string_is_read_as_it_was(words: str) -> None:
    """Whatever is in it."""
    assert {"a": words} == tomllib.loads(f"a = {quoted(words)}")


def test_how_operators_are_told_stands_in_the_file() -> None:
    """One channel, whatever it is, and a heartbeat; secrets are references."""
    channel = NewAccount("ops", "email", {"from": "a@example.com", "to": ["b@example.com"]})
    draft = replace(DRAFT, channel=channel, heartbeat="env:HEARTBEAT_URL")

    text = text_of(draft, Proposal(), str)

    settings = load_text(text, PATH, ENVIRON)
    assert ["ops"] == list(settings.channels)
    assert ["b@example.com"] == settings.channels["ops"].account.values["to"]
    assert settings.monitoring.heartbeat is not None
    assert "env:HEARTBEAT_URL" == settings.monitoring.heartbeat.written


def test_settings_are_kept_as_they_are() -> None:
    """What an operator gave stands in the file word for word, below the environment files."""
    settings = '# mine\n[acme]\nemail = "ops@example.com"\n'

    text = text_of(Preamble(settings=settings, accounts=ACCOUNTS), Proposal(), str)

    assert settings.strip() in text
    assert "ops@example.com" == load_text(text, PATH, ENVIRON).acme.email


def test_line_that_is_commented_out_is_one_when_it_is_taken_in() -> None:
    """The table of a domain that was left out needs only its account."""
    found = FoundDomain("x.example.net", Kind.CDN)
    proposal = propose_for_domains(Places("dnspod", (), "qiniu", (found,)), 100)
    text = text_of(DRAFT, proposal, str)

    below = text.partition("holds it\n")[2]
    taken_in = re.sub(r"^# ?", "", below, flags=re.MULTILINE).replace("…", "dnspod")
    settings = load_text(text + taken_in, PATH, ENVIRON)

    [wish] = settings.certificates
    assert (("x.example.net",), "dnspod") == (wish.names, wish.dns)
    assert [("qiniu", ("x.example.net",))] == [(d.target, d.domains) for d in wish.deployments]
