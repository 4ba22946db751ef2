"""What the operating system says of a failure, so that it can be read in every language."""

from __future__ import annotations

from certferry.text import Text, verbatim

_KNOWN = {
    known.template: known
    for known in (
        # As glibc words them: strerror(3), then gai_strerror(3).
        Text("Operation not permitted"),
        Text("No such file or directory"),
        Text("Input/output error"),
        Text("Argument list too long"),
        Text("Exec format error"),
        Text("Permission denied"),
        Text("Device or resource busy"),
        Text("File exists"),
        Text("Invalid cross-device link"),
        Text("Not a directory"),
        Text("Is a directory"),
        Text("Too many open files"),
        Text("Text file busy"),
        Text("File too large"),
        Text("No space left on device"),
        Text("Read-only file system"),
        Text("Broken pipe"),
        Text("File name too long"),
        Text("Too many levels of symbolic links"),
        Text("Network is unreachable"),
        Text("Connection reset by peer"),
        Text("Connection timed out"),
        Text("Connection refused"),
        Text("No route to host"),
        Text("Disk quota exceeded"),
        Text("Name or service not known"),
        Text("Temporary failure in name resolution"),
        Text("No address associated with hostname"),
    )
}


def system_words(error: Exception) -> Text:
    """Return what the system says; of a failure that is not the system's, only the kind, since its
    words may quote anything. By the words and not by the number: `socket.gaierror` and
    `ssl.SSLError` are `OSError`s with numbers of their own.
    """
    if not isinstance(error, OSError):
        return verbatim(type(error).__name__)
    words = error.strerror or str(error) or type(error).__name__
    return _KNOWN.get(words) or verbatim(words)
