"""The trust in files of other users, and the atomic replacement of a file."""

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

# --- Trusted paths: real files of two users, judged at every directory of the path


THEIR_NAME = pwd.getpwuid(NOBODY).pw_name


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file of the caller's, two directories below another."""
    path = tmp_path / "outer" / "inner" / "file"
    path.parent.mkdir(0o755, parents=True)
    path.touch(0o644)
    return path


def refusal(path: Path, *, makes_files: bool = False) -> tuple[str, str]:
    """Return the problem of an untrusted path, and the advice."""
    with pytest.raises(NotTrusted) as caught:
        must_be_trusted(path, makes_files=makes_files)
    return f"{caught.value.path} {caught.value.problem}", str(caught.value.fix)


def test_file_of_the_caller(file: Path) -> None:
    """The caller's own file is trusted, also if every user may read the file."""
    must_be_trusted(file)
    must_be_trusted(file.parent, makes_files=True)


def test_file_of_root() -> None:
    """Every user trusts a file of root."""
    must_be_trusted(Path("/etc/passwd"))


@pytest.mark.parametrize("relative", ["file", "../inner/./file", "."])
def test_relative_path(file: Path, monkeypatch: pytest.MonkeyPatch, relative: str) -> None:
    """A relative path begins at the working directory."""
    monkeypatch.chdir(file.parent)
    must_be_trusted(Path(relative))

    file.parent.parent.chmod(0o777)

    with pytest.raises(NotTrusted):
        must_be_trusted(Path(relative))


def test_root_directory() -> None:
    """The root directory has no parent to judge."""
    must_be_trusted(Path("/"), makes_files=True)


@as_root
def test_file_of_another_user(file: Path) -> None:
    """The refusal names the owner; the advice is to run as the owner, or to give the file to
    root.
    """
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
    """A user without a name points to a mount in a container, so the advice is for the container
    and the host.
    """
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
def test_file_in_a_directory_of_another_user(file: Path, above: int) -> None:
    """The owner of any directory above could replace the file. The advice leaves the directory with
    its owner.
    """
    directory = given_away(file.parents[above - 1])

    problem, advice = refusal(file)
    assert f"{file} lies in {directory}, which belongs to {THEIR_NAME}" == problem
    assert advice.startswith(
        f"run certferry as the owner: sudo -u {THEIR_NAME} certferry …; or keep it"
    )


@pytest.mark.parametrize(
    ("mode", "who"), [(0o646, "every user"), (0o664, "the group users"), (0o666, "every user")]
)
def test_file_that_others_may_write(file: Path, mode: int, who: str) -> None:
    """Every user, or a group with other members."""
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
    raw = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in sorted(whole))
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
    """The mode hides the rights of the list, so the refusal names the user or group of the list.
    The advised `chmod` removes the right of all in the list.
    """
    path = [file, *file.parents][above]
    listed(path, (tag, 7, number))

    problem, advice = refusal(file)

    kind = "user" if tag == A_USER else "group"
    assert (
        f"the {kind} {who if tag == A_USER else grp.getgrgid(number).gr_name} {BY_LIST}" in problem
    )
    assert f"run: chmod go-w {path}" == advice
    subprocess.run(["chmod", "go-w", path], check=True)
    must_be_trusted(file)


def test_list_without_write_access_of_others(file: Path) -> None:
    """Rights to read, rights of the caller, and rights behind the mask are fine."""
    listed(file, (A_USER, 4, NOBODY), (A_USER, 6, NOBODY + 1), mask=4)
    must_be_trusted(file)

    listed(file, (A_USER, 4, NOBODY), (A_USER, 6, os.geteuid()))
    must_be_trusted(file)


def test_directory_that_others_may_write(file: Path) -> None:
    """Other users could replace files in the directory."""
    directory = file.parent.parent
    directory.chmod(0o777)

    problem = f"{file} lies in {directory}, where every user can replace it (mode 0777)"
    assert (problem, f"run: chmod go-w {directory}") == refusal(file)


@as_root
@pytest.mark.parametrize("inside", [False, True])
def test_directory_that_kubernetes_opened_to_every_user(*, inside: bool) -> None:
    """An emptyDir belongs to root, so the pod's user cannot close it: the advice names another
    volume.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "state").mkdir()
        given_away(folder / "state")
        folder.chmod(0o2777)
        os.seteuid(NOBODY)
        try:
            problem, advice = refusal(folder / "state" if inside else folder, makes_files=True)
        finally:
            os.seteuid(0)

    assert "every user" in problem
    assert advice.startswith(f"as root, run: chmod go-w {folder}; in Kubernetes mount a persistent")


def test_sticky_directory(file: Path) -> None:
    """As in `/tmp`, a file of the caller is safe, but a new file would not be."""
    file.parent.chmod(0o1777)

    must_be_trusted(file)

    problem, advice = refusal(file.parent, makes_files=True)
    assert f"{file.parent} can be changed by every user (mode 1777)" == problem
    assert f"run: chmod go-w {file.parent}" == advice


def test_advice_leaves_the_mode_of_tmp() -> None:
    """The mode of `/tmp` is right for its purpose."""
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
    """Return the judgement of a path by another process, as a user or in other surroundings."""
    command = [*wrapped_in, sys.executable, "-c", JUDGE, str(path), str(user)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@as_root
@pytest.mark.parametrize(
    ("owner", "group", "mode", "answer"),
    [
        (54321, 54321, 0o664, "trusted"),
        (54321, 0, 0o664, "trusted"),
        (0, 0, 0o664, "trusted"),
        (54321, 54322, 0o664, "can be changed by the group 54322 (mode 0664)"),
        (54322, 54322, 0o600, "belongs to 54322, who can change it"),
    ],
)
def test_file_of_an_ordinary_user(owner: int, group: int, mode: int, answer: str) -> None:
    """The user's private group may write, as with a umask of 002, and so may root's group."""
    folder = Path(f"/tmp/certferry-{os.getpid()}")
    path = folder / "file"
    folder.mkdir(0o755)
    try:
        path.touch()
        os.chown(path, owner, group)
        path.chmod(mode)

        assert answer == judgement(path, user=54321)
    finally:
        path.unlink()
        folder.rmdir()


@as_root
def test_directory_of_a_user_outside_the_container(file: Path) -> None:
    """A user without a number in the user namespace owns the surroundings of the container. A file
    of such a user is still refused.
    """
    given_away(file.parent)
    namespace = ("unshare", "--user", "--map-root-user")
    if subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system has no user namespaces")

    assert "trusted" == judgement(file, *namespace)

    given_away(file)

    assert "can change it" in judgement(file, *namespace)


def test_link_of_the_caller(file: Path, tmp_path: Path) -> None:
    """The link is followed, and each directory behind it is judged."""
    link = tmp_path / "link"
    link.symlink_to("outer/inner")
    must_be_trusted(link / "file")

    file.parent.chmod(0o777)

    assert f"lies in {file.parent}, where every user" in refusal(link / "file")[0]


@as_root
def test_link_of_another_user(file: Path, tmp_path: Path) -> None:
    """The owner may point the link elsewhere later, even in a sticky directory."""
    link = tmp_path / "link"
    link.symlink_to(file)
    given_away(link)

    assert f"{link} belongs to " in refusal(link)[0]


def test_links_in_a_circle(tmp_path: Path) -> None:
    """The system reports a circle of links as an error."""
    link = tmp_path / "link"
    link.symlink_to("link")

    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        must_be_trusted(link)


@as_root
def test_owner_that_is_named(file: Path) -> None:
    """A directory of the named owner may be written to for that owner. A link in place of the
    directory is refused, since the link may lead to another user's files.
    """
    directory = given_away(file.parent)
    os.close(open_directory(directory, [NOBODY]))

    (directory / "link").symlink_to("/etc")

    with pytest.raises(NotTrusted, match="is a symbolic link that nobody can change"):
        open_directory(directory / "link", [NOBODY])


@as_root
def test_group_of_the_owner_that_is_named(file: Path) -> None:
    """A member of the group may put a link in the directory, even if root made the directory."""
    directory = file.parent
    os.chown(directory, 0, 54321)
    directory.chmod(0o775)
    os.close(open_directory(directory, [54321]))

    (directory / "link").symlink_to("/etc")

    with pytest.raises(NotTrusted, match="is a symbolic link that the group 54321 can change"):
        open_directory(directory / "link", [54321])


def test_name_that_is_free(tmp_path: Path) -> None:
    """The directories of the path are judged for a missing file, too."""
    with checked_path(tmp_path / "new") as checked:
        assert tmp_path / "new" == checked.path

    tmp_path.chmod(0o777)

    with pytest.raises(NotTrusted), checked_path(tmp_path / "new"):
        pytest.fail("the path was trusted")


# --- The replacement of a file


OLD, NEW = b"what was there", b"new " * 1000


@contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    """Limit the size of files to so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_file_has_its_content_and_its_mode(tmp_path: Path, mode: int) -> None:
    """For any earlier content and mode; no other file is left in the directory."""
    place = tmp_path / "file"
    place.write_bytes(OLD)
    place.chmod(0o777)

    replace_file(place, NEW, mode)

    assert (NEW, mode) == (place.read_bytes(), stat.S_IMODE(place.stat().st_mode))
    assert [place] == list(tmp_path.iterdir())


def test_link_in_place_of_the_file_is_replaced(tmp_path: Path) -> None:
    """The link goes, and the file behind the link stays."""
    place, other = tmp_path / "file", tmp_path / "other"
    other.write_bytes(OLD)
    place.symlink_to(other)

    replace_file(place, NEW)

    assert (OLD, NEW) == (other.read_bytes(), place.read_bytes())
    assert not place.is_symlink()


def test_full_disk_leaves_the_earlier_file(tmp_path: Path) -> None:
    """The old content stays whole, and the partial new file is removed."""
    place = tmp_path / "file"
    place.write_bytes(OLD)

    with files_no_longer_than(100), pytest.raises(OSError, match="File too large"):
        replace_file(place, NEW)

    assert OLD == place.read_bytes()
    assert [place] == list(tmp_path.iterdir())


def test_directory_in_place_of_the_file_stays(tmp_path: Path) -> None:
    """The new file is removed after the failure."""
    place = tmp_path / "file"
    place.mkdir()

    with pytest.raises(IsADirectoryError):
        replace_file(place, NEW)

    assert [place] == list(tmp_path.iterdir())
