"""The API: the documents of `--json` over HTTP, the start of runs, mistakes, and the OpenAPI
document, checked against every answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import requests
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from certferry.console.api import OPERATIONS
from certferry.console.guard import form_token
from certferry.console.openapi import BASE, document
from certferry.core.access import Role, Token, User, digest_of_secret
from certferry_sandbox.world import World
from tests.acceptance.host import Host, certificate
from tests.console.machine import SECRET, Machine, console_of
from tests.console.serving import ANNA
from tests.support.schemas import must_fit

VIEWER = User("bob", Role.VIEWER, ANNA.made_at)
DATA = Path(__file__).parents[1] / "data"
DESCRIBED = document(OPERATIONS, "/x" + BASE, "certferry-8080")
COMMANDS = ("status", "plan", "discover", "doctor", "history", "hosts", "check")


@pytest.fixture
def machine(host: Host) -> Iterator[Machine]:
    """The console of a machine after one run from the terminal."""
    host.run("sync")
    with console_of(host) as served:
        yield served


KEPT = "kept.example.com"


@pytest.fixture(scope="module")
def kept_host(shared_world: World, tmp_path_factory: pytest.TempPathFactory) -> Host:
    """A machine after one run. Tests change nothing on the machine."""
    shared_world.add_http_domain(KEPT)
    folder = tmp_path_factory.mktemp("kept")
    host = Host(shared_world, folder, certificate(KEPT))
    assert 0 == host.run("sync", HOME=str(folder)).code
    return host


@pytest.fixture(scope="module")
def kept(kept_host: Host) -> Iterator[Machine]:
    """The console of `kept_host`."""
    with console_of(kept_host) as served:
        yield served


def answered(machine: Machine, path: str, status: int = 200, **query: Any) -> Any:
    """Send a GET request, and compare the answer with the OpenAPI document."""
    answer = machine.ask("GET", BASE + path, params=query)
    assert status == answer.status_code, answer.text
    must_be_described(path, "get", answer)
    return answer.json()


def started(machine: Machine, body: object, status: int = 202) -> Any:
    """Ask for a run, and compare the answer with the OpenAPI document."""
    sent = body if isinstance(body, str) else json.dumps(body)
    headers = {"X-CSRF-Token": form_token(SECRET)}
    answer = machine.ask("POST", f"{BASE}/runs", data=sent, headers=headers)
    assert status == answer.status_code, answer.text
    must_be_described("/runs", "post", answer)
    return answer.json()


def must_be_described(path: str, method: str, answer: requests.Response) -> None:
    """Raise `AssertionError` if an answer differs from the OpenAPI document."""
    described = next(
        template
        for template in DESCRIBED["paths"]
        if re.fullmatch(re.sub(r"{\w+}", "[^/]+", template), path)
    )
    response = DESCRIBED["paths"][described][method]["responses"][str(answer.status_code)]
    schema = response["content"]["application/json"]["schema"]
    assert answer.headers["Content-Type"].startswith("application/json")
    whole = {**schema, "components": DESCRIBED["components"]}
    wrong = [error.message for error in Draft202012Validator(whole).iter_errors(answer.json())]
    assert [] == wrong
    assert all(name in answer.headers for name in response.get("headers", {}))


# --- documents


@pytest.mark.parametrize("command", COMMANDS)
def test_api_answers_with_the_document_of_the_command(
    kept_host: Host, kept: Machine, command: str
) -> None:
    """The API's document has the keys and values of the command's document, in both languages. Only
    times differ.
    """
    for language in ("en", "zh"):
        asked = answered(kept, f"/{command}", lang=language)
        printed = json.loads(kept_host.run("--lang", language, command, "--json").out)

        must_fit(asked, command)
        assert _timeless(printed) == _timeless(asked)


def _timeless(content: Any) -> Any:
    """Return a document as JSON, with times and numbers removed."""
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:]+Z|: \d+,", "", json.dumps(content, sort_keys=True))


def test_answer_from_services_has_an_age(kept: Machine) -> None:
    """`Age` has whole seconds. Documents from the state have no `Age`."""
    of_services = kept.get(f"{BASE}/plan")
    stored = kept.get(f"{BASE}/history")

    assert 0 <= int(of_services.headers["Age"]) < 60
    assert "Age" not in stored.headers


def test_certificates_are_chosen_by_name(kept: Machine) -> None:
    """`name` is a certificate's name or a domain. An unknown name is answered with 404."""
    for path in ("/status", "/plan"):
        (listed,) = answered(kept, path, name=KEPT)["certificates"]
        assert KEPT == listed["name"]
        answered(kept, path, 404, name="other.example.net")
    assert 1 == answered(kept, "/check", name=KEPT)["certificates"]
    assert {KEPT} == {entry["name"] for entry in answered(kept, "/history", name=KEPT)["entries"]}
    answered(kept, "/history", 404, name="other.example.net")


def test_history_is_read_by_pages(kept: Machine) -> None:
    """`before` continues after the last entry of the previous answer."""
    whole = answered(kept, "/history")["entries"]
    first = answered(kept, "/history", limit=2)["entries"]
    rest = answered(kept, "/history", before=first[-1]["number"])["entries"]

    assert len(whole) > 2
    assert whole == first + rest


def test_renewal_is_planned(kept: Machine) -> None:
    """With `renew`, the plan has the renewal's changes and another digest."""
    nothing = answered(kept, "/plan", name=KEPT)
    renewal = answered(kept, "/plan", name=KEPT, renew="true")

    assert (0, True) == (nothing["changes"], renewal["changes"] > 0)
    assert nothing["digest"] != renewal["digest"]


# --- runs


def test_run_is_started_and_read(machine: Machine, name: str) -> None:
    """The request is answered at once. The run's document has every event, and the report of
    `sync`.
    """
    run = started(machine, {"names": [name], "renew": True})["id"]
    machine.runner.wait_for(run)

    run_document = answered(machine, f"/runs/{run}")
    must_fit(run_document, "run")
    must_fit(run_document["report"], "sync")
    assert ["done", "renew", "api", [name]] == [
        run_document[key] for key in ("state", "kind", "from", "names")
    ]
    last = run_document["events"][-1]["number"]
    assert [] == answered(machine, f"/runs/{run}", after=last)["events"]
    listed = answered(machine, "/runs")
    must_fit(listed, "runs")
    assert [run] == [entry["id"] for entry in listed["runs"] if entry["from"] == "api"]
    assert [] == answered(machine, "/runs", before=listed["runs"][-1]["id"])["runs"]
    assert 1 == len(answered(machine, "/runs", limit=1)["runs"])
    assert [] == answered(machine, "/runs", who="no-one")["runs"]


def test_the_same_request_twice_starts_one_run(machine: Machine) -> None:
    """A program may repeat a request after a lost answer."""
    body = {"request": "nightly-7"}

    assert 1 == len({started(machine, body)["id"] for _ in range(3)})


def test_run_of_a_changed_plan_fails(
    machine: Machine,
    name: str,
) -> None:
    """The run fails, and the last event has the code `plan_changed`."""
    digest = answered(machine, "/plan", name=name, renew="true")["digest"]

    run = started(machine, {"names": [name], "plan": digest})["id"]
    machine.runner.wait_for(run)

    run_document = answered(machine, f"/runs/{run}")
    assert ("failed", "plan_changed") == (
        run_document["state"],
        run_document["events"][-1]["event"],
    )
    assert digest == run_document["plan"]


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[]",
        {"name": ["a"]},
        {"names": "a"},
        {"names": [1]},
        {"kind": "revoke"},
        {"kind": "sync", "renew": True},
        {"names": ["other.example.net"]},
        {"renew": True},
        {"kind": "rollback"},
    ],
)
def test_body_with_a_mistake_starts_no_run(kept: Machine, body: object) -> None:
    """A misspelt key is refused. Otherwise the run would be for all certificates."""
    before = kept.state.stored_runs(10)

    must_fit(started(kept, body, 400), "error")

    assert before == kept.state.stored_runs(10)


def test_viewer_starts_no_run_by_the_api(host: Host) -> None:
    """The refusal has the code `forbidden`."""
    with console_of(host, VIEWER) as machine:
        assert "forbidden" == started(machine, {}, 403)["error"]["code"]
        assert () == machine.state.stored_runs(10)


def test_token_takes_the_place_of_a_session(machine: Machine) -> None:
    """An operator's token reads and starts runs, and the runs carry the token's name. A viewer's
    token only reads, and a request without a token is refused.
    """
    for name, role in (("ci", Role.OPERATOR), ("graph", Role.VIEWER)):
        secret = f"cf_{name}"
        machine.state.add_token(
            Token(name, digest_of_secret(secret), secret[:6], role, ANNA.made_at)
        )

    for token, reads, starts in (("cf_ci", 200, 202), ("cf_graph", 200, 403), ("", 401, 401)):
        headers = {"Authorization": f"Bearer {token}"} if token else {"Origin": machine.url}
        ask = partial(requests.request, headers=headers, timeout=90)
        for path in ("/openapi.json", "/runs"):
            assert reads == ask("GET", machine.url + BASE + path).status_code
        answer = ask("POST", f"{machine.url}{BASE}/runs", data="{}")
        assert starts == answer.status_code
        if starts == HTTPStatus.ACCEPTED:
            machine.runner.wait_for(answer.json()["id"])
    assert "token ci" in {run.who for run in machine.state.stored_runs(10)}


# --- mistakes


@pytest.mark.parametrize(
    "query",
    [
        *("nmae=img", "limit=0", "limit=1001", "limit=x", "limit=", "limit=1e2", "limit=1.0"),
        *("lang=fr", "before=" + "9" * 30),
    ],
)
def test_query_with_a_mistake_is_refused(kept: Machine, query: str) -> None:
    """Unknown parameters and wrong values are refused rather than ignored."""
    answer = kept.get(f"{BASE}/history?{query}", 400)

    must_be_described("/history", "get", answer)
    assert "bad_request" == answer.json()["error"]["code"]


def test_unknown_address_is_answered_with_a_document(kept: Machine) -> None:
    """An unknown path, an unknown run and a wrong method are answered with an error document."""
    for path in ("/nothing", "/runs/none", "/../../api/v2/status", "/plan/"):
        assert "not_found" == kept.get(BASE + path, 404).json()["error"]["code"]
    assert "method_not_allowed" == kept.post(f"{BASE}/plan", 405).json()["error"]["code"]


def test_failed_service_is_answered_with_503(host: Host) -> None:
    """The answer has status 503 with `Retry-After`, as the OpenAPI document describes."""
    host.rewrite("[accounts.qiniu]", "[accounts.elsewhere]")
    host.config.write_text(host.config.read_text().replace('to = "qiniu"', 'to = "elsewhere"'))
    host.config.write_text(
        re.sub(
            r"^api = .*$", 'api = "http://127.0.0.1:9"', host.config.read_text(), flags=re.MULTILINE
        )
    )
    with console_of(host) as machine:
        answer = machine.get(f"{BASE}/discover", 503)

    must_be_described("/discover", "get", answer)
    assert int(answer.headers["Retry-After"]) > 0


def test_errors_are_in_the_language_of_the_request(kept: Machine) -> None:
    """The message is translated, and the code is the same."""
    english, chinese = (
        answered(kept, "/status", 404, name="x.example.net", lang=lang)["error"]
        for lang in ("en", "zh")
    )

    assert english["code"] == chinese["code"]
    assert english["message"] != chinese["message"]


# --- the OpenAPI document


def test_openapi_document_is_valid() -> None:
    """The document fits the schema of OpenAPI 3.1 (spec.openapis.org/oas/3.1/schema/2022-10-07),
    and every reference leads to a schema.
    """
    schema = json.loads((DATA / "openapi-3.1.schema.json").read_text(encoding="utf-8"))
    registry: Registry[Any] = Registry().with_resource(
        schema["$id"], Resource.from_contents(schema)
    )

    Draft202012Validator(schema, registry=registry).validate(DESCRIBED)

    for part in DESCRIBED["components"]["schemas"].values():
        Draft202012Validator.check_schema(part)
    document_text = json.dumps(DESCRIBED)
    for reference in set(re.findall(r'"\$ref": "#/components/schemas/([^"]+)"', document_text)):
        assert reference in DESCRIBED["components"]["schemas"]


def test_every_operation_has_a_different_name() -> None:
    """Generators of clients make a function from each name."""
    ids = [
        operation["operationId"]
        for path in DESCRIBED["paths"].values()
        for operation in path.values()
    ]

    assert len(OPERATIONS) == len(set(ids))
    assert all(re.fullmatch(r"[a-z_]+", operation) for operation in ids)


def test_openapi_document_is_served(kept: Machine) -> None:
    """The server's address in the document is the path of the API."""
    served = kept.get(f"{BASE}/openapi.json").json()

    assert {**DESCRIBED, "servers": [{"url": BASE}]} == served
