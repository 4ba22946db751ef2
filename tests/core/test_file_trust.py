"""Which files are trusted, and that a file is written whole."""

from __future__ import annotations

import grp
import os
import pwd
import resource
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from certferry.file_trust import NotTrusted, checked_path, must_be_trusted, open_directory
from certferry.whole_file import replace_file
from tests.another_user import NOBODY, as_root, given_away

# --- Whose files decide what certferry does: real files of two users, and every step on the way


THEIR_NAME = pwd.getpwuid(NOBODY).pw_name


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of the caller's, two directories below another."""
    path = tmp_path / "outer" / "inner" / "file"
    path.parent.mkdir(0o755, parents=True)
    path.touch(0o644)
    return path


def refusal(path: Path, *, makes_files: bool = False) -> tuple[str, str]:
    """Return what is said of a path, and what is advised."""
    with pytest.raises(NotTrusted) as caught:
        must_be_trusted(path, makes_files=makes_files)
    return f"{caught.value.path} {caught.value.problem}", str(caught.value.fix)


def test_file_of_the_callers(file: Path) -> None:
    """It is trusted, and so is what every user may read."""
    must_be_trusted(file)
    must_be_trusted(file.parent, makes_files=True)


def test_file_of_roots() -> None:
    """Every user trusts it."""
    must_be_trusted(Path("/etc/passwd"))


@pytest.mark.parametrize("written", ["file", "../inner/./file", "."])
def test_relative_path(file: Path, monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    """It begins where the caller stands."""
    monkeypatch.chdir(file.parent)
    must_be_trusted(Path(written))

    file.parent.parent.chmod(0o777)

    with pytest.raises(NotTrusted):
        must_be_trusted(Path(written))


def test_root_itself() -> None:
    """It has nothing above it."""
    must_be_trusted(Path("/"), makes_files=True)


@as_root
def test_file_of_another_user(file: Path) -> None:
    """Reported with its owner, as whom it is to be run; otherwise it must be root's."""
    given_away(file)

    assert (
        f"{file} belongs to {THEIR_NAME}, who can change it",
        (
            f"run certferry as the owner: sudo -u {THEIR_NAME} certferry …; or run: chown -h root"
            f" {file}"
        ),
    ) == refusal(file)


@as_root
def test_file_of_a_user_without_a_name(file: Path) -> None:
    """It was mounted into a container: there is no `sudo`, and the owner is changed on the host."""
    os.chown(file, 54321, 54321)

    assert (
        f"{file} belongs to 54321, who can change it",
        (
            "run the container with --user 54321, or on the host, chown to 0 the file or directory"
            f" mounted at {file}"
        ),
    ) == refusal(file)


@as_root
@pytest.mark.parametrize("above", [1, 2])
def test_file_in_a_directory_of_another_users(file: Path, above: int) -> None:
    """Its owner could put another file there, however far above it is; the advice is not to take
    the directory away from them.
    """
    directory = given_away(file.parents[above - 1])

    said, advice = refusal(file)
    assert f"{file} lies in {directory}, which belongs to {THEIR_NAME}" == said
    assert advice.startswith(
        f"run certferry as the owner: sudo -u {THEIR_NAME} certferry …; or keep it"
    )


@pytest.mark.parametrize(
    ("mode", "who"), [(0o646, "every user"), (0o664, "the group users"), (0o666, "every user")]
)
def test_file_that_others_may_write(file: Path, mode: int, who: str) -> None:
    """Every user, or a group that others are in."""
    if os.geteuid() == 0:
        os.chown(file, -1, grp.getgrnam("users").gr_gid)
    elif mode == 0o664:
        pytest.skip("only root may give a file to any group")
    file.chmod(mode)

    assert (
        f"{file} can be changed by {who} (mode {mode:04o})",
        f"run: chmod go-w {file}",
    ) == refusal(file)


def listed(path: Path, *entries: tuple[int, int, int], mask: int = 7) -> None:
    """Give a file an access control list with these entries (tag, rights, number)."""
    is_directory = path.is_dir()
    whole = [
        (0x01, 7 if is_directory else 6, NO_NUMBER),
        *entries,
        (0x04, 4, NO_NUMBER),
        (0x10, mask, NO_NUMBER),
        (0x20, 5 if is_directory else 4, NO_NUMBER),
    ]
    raw = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *one) for one in sorted(whole))
    try:
        os.setxattr(path, "system.posix_acl_access", raw)
    except OSError:
        pytest.skip("this file system has no access control lists")


NO_NUMBER = 0xFFFFFFFF
A_USER, A_GROUP = 0x02, 0x08
BY_LIST = "(by its access control list)"


@pytest.mark.parametrize(
    ("tag", "number", "who"), [(A_USER, NOBODY, THEIR_NAME), (A_GROUP, NOBODY, "nogroup")]
)
@pytest.mark.parametrize("above", [0, 1, 2])
def test_list_that_lets_others_write(
    file: Path, tag: int, number: int, who: str, above: int
) -> None:
    """The mode shows a group's right, and the group may be private: the list says who it is. The
    `chmod` that helps takes the right away from all in the list.
    """
    path = [file, *file.parents][above]
    listed(path, (tag, 7, number))

    said, advice = refusal(file)

    kind = "user" if tag == A_USER else "group"
    assert f"the {kind} {who if tag == A_USER else grp.getgrgid(number).gr_name} {BY_LIST}" in said
    assert f"run: chmod go-w {path}" == advice
    subprocess.run(["chmod", "go-w", path], check=True)
    must_be_trusted(file)


def test_list_that_lets_no_other_write(file: Path) -> None:
    """Those who may read, the caller, and rights that the mask takes away."""
    listed(file, (A_USER, 4, NOBODY), (A_USER, 6, NOBODY + 1), mask=4)
    must_be_trusted(file)

    listed(file, (A_USER, 4, NOBODY), (A_USER, 6, os.geteuid()))
    must_be_trusted(file)


def test_directory_that_others_may_write(file: Path) -> None:
    """What lies there could be replaced by them."""
    directory = file.parent.parent
    directory.chmod(0o777)

    said = f"{file} lies in {directory}, where every user can replace it (mode 0777)"
    assert (said, f"run: chmod go-w {directory}") == refusal(file)


@as_root
@pytest.mark.parametrize("inside", [False, True])
def test_directory_that_kubernetes_opened_to_every_user(*, inside: bool) -> None:
    """An emptyDir is root's, so the pod's user cannot close it: the advice is what to mount."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "state").mkdir()
        given_away(folder / "state")
        folder.chmod(0o2777)
        os.seteuid(NOBODY)
        try:
            said, advice = refusal(folder / "state" if inside else folder, makes_files=True)
        finally:
            os.seteuid(0)

    assert "every user" in said
    assert advice.startswith(f"as root, run: chmod go-w {folder}; in Kubernetes mount a persistent")


def test_sticky_directory(file: Path) -> None:
    """What is the caller's stays there, as in `/tmp`; but nothing is made there."""
    file.parent.chmod(0o1777)

    must_be_trusted(file)

    said, advice = refusal(file.parent, makes_files=True)
    assert f"{file.parent} can be changed by every user (mode 1777)" == said
    assert f"run: chmod go-w {file.parent}" == advice


def test_the_directory_of_every_user_is_left_as_it_is() -> None:
    """Its mode is right for what it is for."""
    _, advice = refusal(Path("/tmp"), makes_files=True)

    assert advice.startswith("keep it where only ")


JUDGE = """
import os, sys
from pathlib import Path
from certferry.file_trust import NotTrusted, must_be_trusted
if user := int(sys.argv[2]):
    os.setgroups([]); os.setgid(user); os.setuid(user)
try:
    must_be_trusted(Path(sys.argv[1]))
    print("trusted")
except NotTrusted as exc:
    print(exc.problem)
"""


def judgement(path: Path, *wrapped_in: str, user: int = 0) -> str:
    """Return what another process says of a path, that of a user or in surroundings of its own."""
    command = [*wrapped_in, sys.executable, "-c", JUDGE, str(path), str(user)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@as_root
@pytest.mark.parametrize(
    ("owner", "group", "mode", "said"),
    [
        (54321, 54321, 0o664, "trusted"),
        (54321, 0, 0o664, "trusted"),
        (0, 0, 0o664, "trusted"),
        (54321, 54322, 0o664, "can be changed by the group 54322 (mode 0664)"),
        (54322, 54322, 0o600, "belongs to 54322, who can change it"),
    ],
)
def test_file_of_an_ordinary_users(owner: int, group: int, mode: int, said: str) -> None:
    """Their own private group may write, as a umask of 002 has it, and root's; no other user."""
    folder = Path(f"/tmp/certferry-{os.getpid()}")
    path = folder / "file"
    folder.mkdir(0o755)
    try:
        path.touch()
        os.chown(path, owner, group)
        path.chmod(mode)

        assert said == judgement(path, user=54321)
    finally:
        path.unlink()
        folder.rmdir()


@as_root
def test_directory_of_a_user_outside_the_container(file: Path) -> None:
    """Who has no number in its user namespace owns what is around it; a file of theirs is refused
    still.
    """
    given_away(file.parent)
    namespace = ("unshare", "--user", "--map-root-user")
    if subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system has no user namespaces")

    assert "trusted" == judgement(file, *namespace)

    given_away(file)

    assert "can change it" in judgement(file, *namespace)


def test_link_of_the_callers(file: Path, tmp_path: Path) -> None:
    """It is followed, and each step behind it is judged."""
    link = tmp_path / "link"
    link.symlink_to("outer/inner")
    must_be_trusted(link / "file")

    file.parent.chmod(0o777)

    assert f"lies in {file.parent}, where every user" in refusal(link / "file")[0]


@as_root
def test_link_of_another_users(file: Path, tmp_path: Path) -> None:
    """It may lead elsewhere tomorrow, in a sticky directory as anywhere."""
    link = tmp_path / "link"
    link.symlink_to(file)
    given_away(link)

    assert f"{link} belongs to " in refusal(link)[0]


def test_links_in_a_circle(tmp_path: Path) -> None:
    """They are an error of the system's, and no endless way."""
    link = tmp_path / "link"
    link.symlink_to("link")

    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        must_be_trusted(link)


@as_root
def test_owner_that_is_named(file: Path) -> None:
    """A directory of theirs may be written to for them; a link there is not followed: it could
    lead to another's files by then.
    """
    directory = given_away(file.parent)
    os.close(open_directory(directory, [NOBODY]))

    (directory / "link").symlink_to("/etc")

    with pytest.raises(NotTrusted, match="is a symbolic link that nobody can change"):
        open_directory(directory / "link", [NOBODY])


@as_root
def test_group_of_the_owner_that_is_named(file: Path) -> None:
    """Its user may put a link there, too, be it made by root."""
    directory = file.parent
    os.chown(directory, 0, 54321)
    directory.chmod(0o775)
    os.close(open_directory(directory, [54321]))

    (directory / "link").symlink_to("/etc")

    with pytest.raises(NotTrusted, match="is a symbolic link that the group 54321 can change"):
        open_directory(directory / "link", [54321])


def test_name_that_is_free(tmp_path: Path) -> None:
    """The way to it is judged all the same."""
    with checked_path(tmp_path / "new") as found:
        assert tmp_path / "new" == found.path

    tmp_path.chmod(0o777)

    with pytest.raises(NotTrusted), checked_path(tmp_path / "new"):
        pytest.fail("it was found")


# --- Putting a file in the place of another


OLD, NEW = b"what was there", b"new " * 1000


@contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    """Have the system take no more of a file than so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_file_has_its_content_and_its_mode(tmp_path: Path, mode: int) -> None:
    """Whatever was in its place, and whatever mode that had; nothing lies beside it."""
    place = tmp_path / "file"
    place.write_bytes(OLD)
    place.chmod(0o777)

    replace_file(place, NEW, mode)

    assert (NEW, mode) == (place.read_bytes(), stat.S_IMODE(place.stat().st_mode))
    assert [place] == list(tmp_path.iterdir())


def test_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    """It is replaced, and what it leads to stays."""
    place, other = tmp_path / "file", tmp_path / "other"
    other.write_bytes(OLD)
    place.symlink_to(other)

    replace_file(place, NEW)

    assert (OLD, NEW) == (other.read_bytes(), place.read_bytes())
    assert not place.is_symlink()


def test_disk_that_is_full_leaves_what_was_there(tmp_path: Path) -> None:
    """The old content stays whole, and no part of the new one is left."""
    place = tmp_path / "file"
    place.write_bytes(OLD)

    with files_no_longer_than(100), pytest.raises(OSError, match="File too large"):
        replace_file(place, NEW)

    assert OLD == place.read_bytes()
    assert [place] == list(tmp_path.iterdir())


def test_place_that_is_a_directory_stays(tmp_path: Path) -> None:
    """Nothing is left beside it."""
    place = tmp_path / "file"
    place.mkdir()

    with pytest.raises(IsADirectoryError):
        replace_file(place, NEW)

    assert [place] == list(tmp_path.iterdir())
