"""Where the command `certferry` and `python -m certferry` begin."""

from __future__ import annotations

import sys

from certferry import __version__


def main() -> int:
    """Run the command line and return its exit code."""
    if sys.argv[1:] == ["--version"]:
        # Scripts ask for the version often: it costs no import of the command line.
        sys.stdout.write(f"certferry {__version__}\n")
        return 0

    from certferry.cli.main import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
