"""Observe a directory, deliver one new certificate to it, and print the result as JSON.

Usage: python one_delivery.py DIRECTORY

The environment variable OWNER names the files' owner.
"""

from __future__ import annotations

import json
import os
import sys

from certferry.core.desired.certificate import FileDelivery
from certferry.errors import DeployError
from tests.adapters.receivers.bench import LINEAGE, directory, issue


def main(path: str) -> dict[str, object]:
    """Observe, then deliver."""
    delivery = FileDelivery(path, owner=os.environ.get("OWNER"))
    problem = directory(delivery).observe(None).problem
    observed = None if problem is None else str(problem.message)
    try:
        directory(delivery).deliver(LINEAGE, issue())
    except DeployError as error:
        return {
            "message": str(error.message),
            "hint": str(error.hint),
            "again": error.retry.allowed,
            "seen": observed,
        }
    return {"message": "delivered"}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])), flush=True)  # noqa: T201 - the test reads this line
