"""What a report shows of a call: its words, its way and its shape, and never a value."""

from __future__ import annotations

import json

import pytest

from certferry.adapters.http.client import Exchange, Request
from certferry.adapters.http.journal import reported, shape
from certferry.ports.http import Answer

PUBLIC = {"api.example.com", "domain", "limit", "Qiniu"}


def told(url: str, body: bytes, **headers: str) -> str:
    """Say what a report shows of an answer of 200."""
    came = Answer(200, {}, body)
    [line] = reported([Exchange(Request("GET", url, headers), came)], PUBLIC)
    return str(line)


@pytest.mark.parametrize(
    ("found", "written"),
    [
        (None, "null"),
        ([], "[]"),
        ({}, "{}"),
        (["a", None, 1, 1.5, True], "[5 × boolean | null | number | string]"),
        ([{"a": 1, "b": []}, {"a": None}], "[2 × {a: null | number, b?: []}]"),
        ({"www.example.com": 1, "图片": 2, "a" * 31: 3, "state": "on"}, "{…, state: string}"),
    ],
)
def test_shape(found: object, written: str) -> None:
    """Fields and kinds; a key that could be a name of the operator's is hidden."""
    assert written == shape(found)


def test_words_that_are_not_public_are_hidden() -> None:
    """Of the path, of the query, of the host and of the header that signs."""
    public = told("https://api.example.com/domain?limit=10", b"[]", Authorization="Qiniu key:sign")
    hidden = told("https://cdn.example.org/domain/a?tbl=b&limit=c", b"[]", Authorization="key sign")

    assert "GET /domain?limit at api.example.com (Qiniu): 200, `[]`" == public
    assert "GET /domain/…?limit at …: 200, `[]`" == hidden


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (b"<html>", "200, no JSON"),
        (b"[" * 100_000, "200, no JSON"),
        (json.dumps({"code": 401001}).encode(), "200, code 401001, `{code: number}`"),
        (
            json.dumps({"status": {"code": "-1"}}).encode(),
            "200, code -1, `{status: {code: string}}`",
        ),
        (json.dumps({"code": "www.example.com"}).encode(), "200, `{code: string}`"),
    ],
)
def test_answers(body: bytes, answer: str) -> None:
    """A code is a number, as Qiniu has it or DNSPod; all else of the body is shape."""
    assert told("https://api.example.com/", body).endswith(f": {answer}")
