"""Configuration files that certferry proposes, writes and edits."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.config.document import Document, document_of
from certferry.config.env_files import read_env_file
from certferry.config.load import load_text
from certferry.config.propose import (
    NewAccount,
    Preamble,
    text_of,
    toml_string,
    with_certificates,
    without_certificate,
)
from certferry.config.write import drafted, drafted_copy, with_assignments, write_private
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
    TargetAccount,
    propose_for_domains,
)
from certferry.core.redaction import Secret
from certferry.errors import ConfigError
from certferry.text import Text
from certferry.values import replace
from certferry.whole_file import free_copy
from certferry_sandbox.testing.certificates import make_bundle
from tests.another_user import as_root, given_away

# --- Proposals as files


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
        "x", tuple(names), "dnspod", key, None, tuple(deployments), tuple(map(text_with, remarks))
    ),
    st.lists(NAME, min_size=1, max_size=30, unique=True),
    st.none() | st.sampled_from(KeyType),
    st.lists(DEPLOYMENT, max_size=1),
    st.lists(WORDS, max_size=2),
)
BUNDLE = make_bundle("img.example.com", not_before=datetime(2026, 11, 25, tzinfo=UTC))


def text_with(words: str) -> Text:
    return Text("{words}", words=words)


@given(
    certificates=st.lists(ISSUED, max_size=4),
    left_out=st.lists(
        st.builds(
            lambda name, why, certificate: LeftOut(name, text_with(why), certificate),
            WORDS,
            WORDS,
            st.none() | ISSUED,
        )
    ),
    email=st.none() | st.just("ops@example.com"),
)
def test_proposal_becomes_the_same_declarations(
    certificates: list[ProposedCertificate], left_out: list[LeftOut], email: str | None
) -> None:
    """Every generated file loads and declares the proposed certificates; comments stay comments."""
    named = tuple(
        ProposedCertificate(
            f"n{number}",
            certificate.names,
            certificate.dns,
            certificate.key_type,
            None,
            certificate.deployments[:1],
            certificate.remarks,
        )
        for number, certificate in enumerate(certificates)
    )
    # Only one certificate may have a directory or a domain.
    proposed = named[:1] + tuple(
        certificate
        for certificate in named[1:]
        if not any(
            deployment.directory or deployment.domains for deployment in certificate.deployments
        )
    )
    preamble = Preamble(directory=DRAFT.directory, email=email, accounts=ACCOUNTS)

    text = text_of(preamble, Proposal(proposed, tuple(left_out)), str)

    settings = load_text(text, PATH, ENVIRON)
    assert email == settings.acme.email
    assert [
        (certificate.lineage, certificate.names, certificate.key_type or KeyType.EC256)
        for certificate in proposed
    ] == [(desired.lineage, desired.names, desired.key_type) for desired in settings.certificates]
    for certificate, desired in zip(proposed, settings.certificates, strict=True):
        assert [d.to for d in certificate.deployments] == [d.target for d in desired.deployments]
        assert [d.domains for d in certificate.deployments if d.to == "qiniu"] == [
            d.domains for d in desired.deployments if d.target == "qiniu" and not d.has_patterns
        ]
        assert [d.access for d in certificate.deployments if d.to == "files"] == [
            Access(files.owner, files.group, files.mode, files.key_mode)
            for files in (d.delivery for d in desired.deployments)
            if isinstance(files, FileDelivery)
        ]


@given(certificate=ISSUED)
def test_omitted_certificate_becomes_a_declaration_without_comment_signs(
    certificate: ProposedCertificate,
) -> None:
    """The table of an omitted certificate is a comment; without the # the table declares the
    certificate.
    """
    omitted = LeftOut("x", Text("not now"), certificate)

    text = text_of(DRAFT, Proposal((), (omitted,)), str)

    assert () == load_text(text, PATH, ENVIRON).certificates
    head, _, tail = text.partition("# [[certificates]]\n")
    declared = head + re.sub("^# ?", "", f"# [[certificates]]\n{tail}", flags=re.MULTILINE)
    [desired] = load_text(declared, PATH, ENVIRON).certificates
    assert (certificate.names, certificate.dns) == (desired.names, desired.dns)
    assert [d.to for d in certificate.deployments] == [d.target for d in desired.deployments]


@given(fullchain=PATHS, privkey=PATHS)
def test_imported_files_may_have_any_path(fullchain: str, privkey: str) -> None:
    """Quotes, spaces and Chinese characters in a path stay unchanged."""
    files = PemFiles(fullchain, privkey)
    certificate = ProposedCertificate("img", files=files, adopts=BUNDLE)

    text = text_of(DRAFT, Proposal((certificate,)), str)

    assert files == load_text(text, PATH, ENVIRON).certificates[0].files
    assert "# It is for img.example.com." in text


@given(words=st.text(st.characters(exclude_categories=["Cs"])))
def test_string_is_read_back(words: str) -> None:
    """A string of any characters comes back unchanged."""
    assert {"a": words} == tomllib.loads(f"a = {toml_string(words)}")


def test_channel_and_heartbeat_are_in_the_file() -> None:
    """The file declares the channel and the heartbeat, with references to secrets."""
    channel = NewAccount("ops", "email", {"from": "a@example.com", "to": ["b@example.com"]})
    draft = replace(DRAFT, channel=channel, heartbeat="env:HEARTBEAT_URL")

    text = text_of(draft, Proposal(), str)

    settings = load_text(text, PATH, ENVIRON)
    assert ["ops"] == list(settings.channels)
    assert ["b@example.com"] == settings.channels["ops"].account.values["to"]
    assert settings.monitoring.heartbeat is not None
    assert "env:HEARTBEAT_URL" == settings.monitoring.heartbeat.written


def test_settings_of_the_operator_stay_unchanged() -> None:
    """The operator's settings are in the file word for word, below the environment files."""
    settings = '# mine\n[acme]\nemail = "ops@example.com"\n'

    text = text_of(Preamble(settings=settings, accounts=ACCOUNTS), Proposal(), str)

    assert settings.strip() in text
    assert "ops@example.com" == load_text(text, PATH, ENVIRON).acme.email


def test_commented_table_of_an_omitted_domain() -> None:
    """Without the # the table needs only an account."""
    omitted = FoundDomain("x.example.net", Kind.CDN)
    proposal = propose_for_domains(Places("dnspod", (), (TargetAccount("qiniu", (omitted,)),)), 100)
    text = text_of(DRAFT, proposal, str)

    below = text.partition("contains the name\n")[2]
    uncommented = re.sub(r"^# ?", "", below, flags=re.MULTILINE).replace("…", "dnspod")
    settings = load_text(text + uncommented, PATH, ENVIRON)

    [desired] = settings.certificates
    assert (("x.example.net",), "dnspod") == (desired.names, desired.dns)
    assert [("qiniu", ("x.example.net",))] == [(d.target, d.domains) for d in desired.deployments]


# --- The operator's own files


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_new_file_is_for_the_owner_alone(tmp_path: Path) -> None:
    """A file that every user could read is replaced by a file for the owner alone."""
    path = tmp_path / "certferry.toml"
    path.write_text("old")
    path.chmod(0o644)
    held = path.open()

    write_private(path, "new")

    assert ("new", 0o600) == (path.read_text(), mode(path))
    assert "old" == held.read()
    held.close()
    assert [path] == list(tmp_path.iterdir())


def test_failed_write_leaves_nothing(tmp_path: Path) -> None:
    """A directory in the file's place stays, without a draft beside the directory."""
    (tmp_path / "certferry.toml").mkdir()

    with pytest.raises(ConfigError, match="cannot be written"):
        write_private(tmp_path / "certferry.toml", "new")

    assert ["certferry.toml"] == [path.name for path in tmp_path.iterdir()]


@as_root
def test_directory_of_another_user(tmp_path: Path) -> None:
    """Root refuses to read a configuration there, so root does not write a configuration there
    either; the hint asks for another place.
    """
    given_away(tmp_path)

    with pytest.raises(ConfigError) as caught:
        write_private(tmp_path / "certferry.toml", "new")

    assert (f"{tmp_path}/certferry.toml lies in {tmp_path}, which belongs to nobody") == str(
        caught.value.message
    )
    assert str(caught.value.hint).endswith(
        "choose another place with --output FILE; nothing was changed"
    )
    assert [] == list(tmp_path.iterdir())


def test_copies_have_different_names(tmp_path: Path) -> None:
    """The first copy is the original, and stays unchanged."""
    path = tmp_path / "certferry.toml"
    path.write_text("first")
    first, second = copy_of(path), copy_of(path, then="second")

    assert ("certferry.toml.bak", "certferry.toml.bak.2") == (first.name, second.name)
    assert ("first", "second") == (first.read_text(), second.read_text())
    assert 0o600 == mode(first)


def copy_of(path: Path, then: str | None = None) -> Path:
    """Copy a file, whose content is first replaced by `then`, and return the copy."""
    if then is not None:
        path.write_text(then)
    copy = free_copy(path)
    with drafted_copy(path, copy) as draft:
        draft.put()
    return copy


def test_discarded_draft_leaves_the_file_unchanged(tmp_path: Path) -> None:
    """The draft is a complete file beside the old file, and is removed at the end."""
    path = tmp_path / "certferry.toml"
    path.write_text("old")

    with drafted(path, b"new") as draft:
        assert (b"new", 0o600) == (draft.draft.read_bytes(), mode(draft.draft))

    assert "old" == path.read_text()
    assert [path] == list(tmp_path.iterdir())


def test_linked_file_is_written(tmp_path: Path) -> None:
    """The link stays, since the file may belong to a folder under version control."""
    real, path = tmp_path / "repository" / "ferry.toml", tmp_path / "certferry.toml"
    real.parent.mkdir()
    real.write_text("old")
    path.symlink_to("repository/ferry.toml")

    write_private(path, "new")

    assert path.is_symlink()
    assert ("new", 0o600) == (real.read_text(), mode(real))
    assert [real] == list(real.parent.iterdir())


@pytest.mark.parametrize("place", ["/proc/certferry.toml", "{tmp}/file/certferry.toml"])
def test_unwritable_place_is_reported_first(tmp_path: Path, place: str) -> None:
    """Every user, including root, gets the error before any change."""
    (tmp_path / "file").touch()

    with (
        pytest.raises(ConfigError, match="cannot be written") as caught,
        drafted(Path(place.format(tmp=tmp_path)), b""),
    ):
        pytest.fail("it was taken")

    assert "nothing was changed" in str(caught.value.hint)


KEY = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20)


@given(value=KEY)
def test_key_is_read_back(tmp_path_factory: pytest.TempPathFactory, value: str) -> None:
    """A key of any characters comes back unchanged from the line of the file."""
    path = tmp_path_factory.mktemp("keys") / "certferry.env"

    write_private(path, with_assignments(path, {"DP_Key": Secret(value)}))

    env_file = read_env_file(path)
    assert ({"DP_Key": value}, ()) == (dict(env_file.values), env_file.mistakes)


@pytest.mark.parametrize("value", ["plain", "it's", 'a"b$c`d\\e', 'it\'s $HOME "and" `more`'])
def test_shell_reads_the_same_value(tmp_path: Path, value: str) -> None:
    """Recipes source the file in a shell."""
    path = tmp_path / "certferry.env"
    path.write_text(with_assignments(path, {"DP_Key": Secret(value)}))

    script = '. "$1"; printf %s "$DP_Key"'
    shell = subprocess.run(
        ["sh", "-c", script, "sh", path], capture_output=True, text=True, check=True
    )

    assert value == shell.stdout


def test_lines_of_an_environment_file_stay(tmp_path: Path) -> None:
    """New keys are appended on their own lines."""
    path = tmp_path / "certferry.env"
    path.write_text("# mine\nOTHER='x'")
    path.chmod(0o600)

    text = with_assignments(path, {"DP_Id": Secret("1")})

    assert "# mine\nOTHER='x'\nDP_Id=1\n" == text


def test_key_with_a_line_end_is_refused(tmp_path: Path) -> None:
    """The second line of the key would become another assignment."""
    with pytest.raises(ConfigError, match="cannot be printed"):
        with_assignments(tmp_path / "certferry.env", {"DP_Id": Secret("1\nPATH=/tmp")})


# --- Certificates that are added to a file or removed, without any other change


HEAD = """\
# Ours.
env_files = ["/etc/ssl/.cdn-env"]  # 0600

[accounts.dnspod]   # the keys are there
id    = "env:DP_Id"
token = "env:DP_Key"
# line = "x"

"""
IMG = """\
# The pictures.
# Ask the web team.
[[certificates]]
name  = "img"
names = [
    "img.example.com",  # [[certificates]]
]
dns = "dnspod"
# key_type = "rsa2048"
"""
DEPLOY = """
# The CDN.
[[certificates.deploy]]
to = "qiniu"
"""
WWW = """
# The site.
[[certificates]]
name = "www"
names = ["www.example.com"]
dns = "dnspod"
"""
TAIL = """
# Who is told.
[notify.ops]
type = "dingtalk"
url = "env:URL"
# the end
"""
NEW = """\
[[certificates]]
name = "new"
names = ["new.example.com"]
dns = "dnspod"

[[certificates.deploy]]
to = "qiniu"
"""


def document(text: str) -> Document:
    return document_of(Path("certferry.toml"), text)


def test_new_certificate_comes_below_the_others() -> None:
    """Every line of the file stays, and one blank line separates the new table."""
    assert (
        HEAD + IMG + DEPLOY + WWW + "\n" + NEW + TAIL
        == with_certificates(document(HEAD + IMG + DEPLOY + WWW + TAIL), NEW).text
    )


def test_first_certificate_comes_at_the_end() -> None:
    """The new table is below all other tables."""
    assert HEAD + NEW == with_certificates(document(HEAD), NEW).text
    assert HEAD + "# the end\n\n" + NEW == with_certificates(document(HEAD + "# the end"), NEW).text
    assert NEW == with_certificates(document(""), NEW).text
    assert NEW == with_certificates(document("\n\n"), NEW).text


def test_new_certificate_directly_above_another_table() -> None:
    """A comment directly above the other table belongs to the other table."""
    text = WWW.lstrip() + "# Who is told.\n[notify.ops]\n"

    assert (
        WWW.lstrip() + "\n" + NEW + "\n# Who is told.\n[notify.ops]\n"
        == with_certificates(document(text), NEW).text
    )


@pytest.mark.parametrize(
    ("text", "number", "expected"),
    [
        (HEAD + IMG + DEPLOY + WWW + TAIL, 0, HEAD + WWW.lstrip() + TAIL),
        (HEAD + IMG + DEPLOY + WWW + TAIL, 1, HEAD + IMG + DEPLOY + TAIL),
        (HEAD + IMG + DEPLOY + WWW, 1, HEAD + IMG + DEPLOY),
        (IMG + DEPLOY, 0, ""),
        (HEAD + IMG, 0, HEAD.rstrip("\n") + "\n"),
        (WWW.lstrip() + "# Who.\n[notify.ops]\n", 0, "# Who.\n[notify.ops]\n"),
    ],
    ids=["first", "between", "last", "only", "last-of-all", "directly-above"],
)
def test_certificate_is_removed(text: str, number: int, expected: str) -> None:
    """The deployments and the comments above them are removed as well, and no gap is left."""
    assert expected == without_certificate(document(text), number).text


def test_distant_deployment_is_removed() -> None:
    """TOML allows other tables between a certificate and its deployment; these tables stay."""
    text = IMG + TAIL + DEPLOY + WWW

    assert TAIL.lstrip() + WWW == without_certificate(document(text), 0).text


def test_lines_of_a_change() -> None:
    """A change has the added or removed lines and their numbers, without the lines around them."""
    text = IMG + TAIL + DEPLOY + WWW
    come, gone = with_certificates(document(HEAD), NEW), without_certificate(document(text), 0)

    assert ("+", ((9, tuple(NEW.splitlines())),)) == (come.sign, come.blocks)
    assert "-" == gone.sign
    assert [(1, IMG), (17, DEPLOY.lstrip())] == [
        (line, "".join(f"{row}\n" for row in rows)) for line, rows in gone.blocks
    ]


def test_line_ends_of_windows_stay() -> None:
    """Added lines have the same line ends."""
    text = (HEAD + IMG + DEPLOY + WWW + TAIL).replace("\n", "\r\n")
    more = with_certificates(document(text), NEW).text

    assert more.count("\n") == more.count("\r\n")
    assert text == without_certificate(document(more), 2).text


@pytest.mark.parametrize(
    "text",
    [
        'certificates = [{ names = ["a.example.com"], dns = "x" }]\n',
        "certificates = []\n",
        "[certificates]\n",
    ],
)
def test_certificates_outside_double_brackets(text: str) -> None:
    """The error asks the operator to edit the file."""
    with pytest.raises(ConfigError, match=r"under its own \[\[certificates\]\]"):
        with_certificates(document(text), NEW)
    with pytest.raises(ConfigError, match=r"under its own \[\[certificates\]\]"):
        without_certificate(document(text), 0)


COMMENTS = st.sampled_from(["", "\n", "# one\n", "\n# one\n\n", "# one\n# two\n\n", "\n\n\n"])
OTHERS = st.sampled_from(
    [HEAD[7:], TAIL, "[dns]\nresolvers = [\n'1.1.1.1', # x\n\n]\n", "[verify]\n"]
)
ONES = st.sampled_from([IMG, WWW, IMG + DEPLOY, '[[certificates]]\nx = """\n# no\n\n"""\n'])


@given(st.data(), st.lists(st.tuples(COMMENTS, ONES), min_size=1, max_size=4), COMMENTS)
def test_any_layout_of_a_file(data: st.DataObject, ones: list[tuple[str, str]], end: str) -> None:
    """Exactly one certificate is removed or added, and no other line with text is lost or moved."""
    others = data.draw(st.lists(st.tuples(COMMENTS, OTHERS), max_size=3, unique_by=lambda o: o[1]))
    parts = data.draw(st.permutations([*ones, *others]))
    # Settings above all tables cannot follow a table.
    parts.sort(key=lambda part: not part[1].startswith("env_files"))
    text = "".join(comment + part for comment, part in parts) + end
    before = tomllib.loads(text)["certificates"]
    number = data.draw(st.integers(0, len(before) - 1))

    less = without_certificate(document(text), number).text
    more = with_certificates(document(text), NEW).text

    assert [entry for n, entry in enumerate(before) if n != number] == tomllib.loads(less).get(
        "certificates", []
    )
    assert text_lines(less) == text_lines(text, within=less)
    assert [*before, *tomllib.loads(NEW)["certificates"]] == tomllib.loads(more)["certificates"]
    assert not set(text_lines(text)) - set(text_lines(more))


def text_lines(text: str, within: str | None = None) -> list[str]:
    """Return the lines with text, or only lines that are also in `within`, in the same order."""
    rows = [row for row in text.splitlines() if row.strip()]
    if within is None:
        return rows
    others = iter(rows)
    return [row for row in text_lines(within) if any(row == other for other in others)]


@as_root
@pytest.mark.parametrize(("mode", "file_mode"), [(0o2750, 0o640), (0o750, 0o600)])
def test_directory_of_root_for_a_service(tmp_path: Path, mode: int, file_mode: int) -> None:
    """The service reads by its group, and no other user can read."""
    service = 12_345
    os.chown(tmp_path, 0, service)
    tmp_path.chmod(mode)

    write_private(tmp_path / "certferry.env", "KEY=value\n")

    facts = (tmp_path / "certferry.env").stat()
    assert file_mode == stat.S_IMODE(facts.st_mode)
    assert (service if file_mode == 0o640 else os.getgid()) == facts.st_gid
