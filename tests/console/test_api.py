"""The API: what `--json` prints, over HTTP; the start of runs; mistakes; and its own description,
to which every answer is held.
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
    """The console of a machine that has run once, from its terminal."""
    host.run("sync")
    with console_of(host) as found:
        yield found


KEPT = "kept.example.com"


@pytest.fixture(scope="module")
def kept_host(shared_world: World, tmp_path_factory: pytest.TempPathFactory) -> Host:
    """A machine that has run once, whose tests change nothing."""
    shared_world.add_http_domain(KEPT)
    folder = tmp_path_factory.mktemp("kept")
    host = Host(shared_world, folder, certificate(KEPT))
    assert 0 == host.run("sync", HOME=str(folder)).code
    return host


@pytest.fixture(scope="module")
def kept(kept_host: Host) -> Iterator[Machine]:
    """The console of that machine."""
    with console_of(kept_host) as found:
        yield found


def answered(machine: Machine, path: str, status: int = 200, **query: Any) -> Any:
    """Ask, and hold the answer to its description."""
    found = machine.ask("GET", BASE + path, params=query)
    assert status == found.status_code, found.text
    must_be_described(path, "get", found)
    return found.json()


def started(machine: Machine, body: object, status: int = 202) -> Any:
    """Ask for a run, and hold the answer to its description."""
    sent = body if isinstance(body, str) else json.dumps(body)
    headers = {"X-CSRF-Token": form_token(SECRET)}
    found = machine.ask("POST", f"{BASE}/runs", data=sent, headers=headers)
    assert status == found.status_code, found.text
    must_be_described("/runs", "post", found)
    return found.json()


def must_be_described(path: str, method: str, answer: requests.Response) -> None:
    """Raise `AssertionError` where an answer is not as the OpenAPI document says."""
    described = next(
        one for one in DESCRIBED["paths"] if re.fullmatch(re.sub(r"{\w+}", "[^/]+", one), path)
    )
    found = DESCRIBED["paths"][described][method]["responses"][str(answer.status_code)]
    schema = found["content"]["application/json"]["schema"]
    assert answer.headers["Content-Type"].startswith("application/json")
    whole = {**schema, "components": DESCRIBED["components"]}
    wrong = [error.message for error in Draft202012Validator(whole).iter_errors(answer.json())]
    assert [] == wrong
    assert all(name in answer.headers for name in found.get("headers", {}))


# --- what is answered


@pytest.mark.parametrize("command", COMMANDS)
def test_the_answer_is_what_the_command_prints(
    kept_host: Host, kept: Machine, command: str
) -> None:
    """Key by key, in both languages; what differs is what time has changed."""
    for language in ("en", "zh"):
        asked = answered(kept, f"/{command}", lang=language)
        printed = json.loads(kept_host.run("--lang", language, command, "--json").out)

        must_fit(asked, command)
        assert _timeless(printed) == _timeless(asked)


def _timeless(found: Any) -> Any:
    """Return a document without what another moment changes."""
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:]+Z|: \d+,", "", json.dumps(found, sort_keys=True))


def test_what_services_were_asked_says_how_old_it_is(kept: Machine) -> None:
    """In whole seconds; what is stored says no age."""
    of_services = kept.get(f"{BASE}/plan")
    stored = kept.get(f"{BASE}/history")

    assert 0 <= int(of_services.headers["Age"]) < 60
    assert "Age" not in stored.headers


def test_names_choose_certificates(kept: Machine) -> None:
    """By their own name, or by a domain; an unknown one is not found."""
    for path in ("/status", "/plan"):
        (found,) = answered(kept, path, name=KEPT)["certificates"]
        assert KEPT == found["name"]
        answered(kept, path, 404, name="other.example.net")
    assert 1 == answered(kept, "/check", name=KEPT)["certificates"]
    assert {KEPT} == {one["name"] for one in answered(kept, "/history", name=KEPT)["entries"]}
    answered(kept, "/history", 404, name="other.example.net")


def test_history_is_read_by_pages(kept: Machine) -> None:
    """`before` goes on where the last answer ended."""
    whole = answered(kept, "/history")["entries"]
    first = answered(kept, "/history", limit=2)["entries"]
    rest = answered(kept, "/history", before=first[-1]["number"])["entries"]

    assert len(whole) > 2
    assert whole == first + rest


def test_a_renewal_can_be_planned(kept: Machine) -> None:
    """It has a digest of its own, by which it could be applied."""
    nothing = answered(kept, "/plan", name=KEPT)
    renewal = answered(kept, "/plan", name=KEPT, renew="true")

    assert (0, True) == (nothing["changes"], renewal["changes"] > 0)
    assert nothing["digest"] != renewal["digest"]


# --- runs


def test_a_run_is_started_and_read(machine: Machine, name: str) -> None:
    """It answers at once; its document has every event, and what the command would print."""
    run = started(machine, {"names": [name], "renew": True})["id"]
    machine.runner.wait_for(run)

    found = answered(machine, f"/runs/{run}")
    must_fit(found, "run")
    must_fit(found["report"], "sync")
    assert ["done", "renew", "api", [name]] == [
        found[key] for key in ("state", "kind", "from", "names")
    ]
    last = found["events"][-1]["number"]
    assert [] == answered(machine, f"/runs/{run}", after=last)["events"]
    listed = answered(machine, "/runs")
    must_fit(listed, "runs")
    assert [run] == [one["id"] for one in listed["runs"] if one["from"] == "api"]
    assert [] == answered(machine, "/runs", before=listed["runs"][-1]["id"])["runs"]
    assert 1 == len(answered(machine, "/runs", limit=1)["runs"])
    assert [] == answered(machine, "/runs", who="no-one")["runs"]


def test_the_same_request_twice_starts_one_run(machine: Machine) -> None:
    """A program may try again after an answer that it did not get."""
    body = {"request": "nightly-7"}

    assert 1 == len({started(machine, body)["id"] for _ in range(3)})


def test_a_plan_that_is_another_one_now_changes_nothing(
    machine: Machine,
    name: str,
) -> None:
    """The run ends, and its last event has the code."""
    digest = answered(machine, "/plan", name=name, renew="true")["digest"]

    run = started(machine, {"names": [name], "plan": digest})["id"]
    machine.runner.wait_for(run)

    found = answered(machine, f"/runs/{run}")
    assert ("failed", "plan_changed") == (found["state"], found["events"][-1]["event"])
    assert digest == found["plan"]


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
def test_a_body_with_a_mistake_starts_nothing(kept: Machine, body: object) -> None:
    """A key that is misspelt must not start a run for everything."""
    before = kept.state.stored_runs(10)

    must_fit(started(kept, body, 400), "error")

    assert before == kept.state.stored_runs(10)


def test_a_viewer_starts_nothing(host: Host) -> None:
    """The refusal has a code for programs."""
    with console_of(host, VIEWER) as machine:
        assert "forbidden" == started(machine, {}, 403)["error"]["code"]
        assert () == machine.state.stored_runs(10)


def test_a_program_has_a_token_in_place_of_a_session(machine: Machine) -> None:
    """Of a role, and in the name of which it starts runs; without one, not even the description."""
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
def test_a_query_with_a_mistake_is_refused(kept: Machine, query: str) -> None:
    """An unknown word is no filter that would be left out silently."""
    found = kept.get(f"{BASE}/history?{query}", 400)

    must_be_described("/history", "get", found)
    assert "bad_request" == found.json()["error"]["code"]


def test_what_is_not_there_is_a_document_too(kept: Machine) -> None:
    """A path, a run, a method."""
    for path in ("/nothing", "/runs/none", "/../../api/v2/status", "/plan/"):
        assert "not_found" == kept.get(BASE + path, 404).json()["error"]["code"]
    assert "method_not_allowed" == kept.post(f"{BASE}/plan", 405).json()["error"]["code"]


def test_a_service_that_fails_is_said(host: Host) -> None:
    """With the problem's code, and when to try again."""
    host.rewrite("[accounts.qiniu]", "[accounts.elsewhere]")
    host.config.write_text(host.config.read_text().replace('to = "qiniu"', 'to = "elsewhere"'))
    host.config.write_text(
        re.sub(
            r"^api = .*$", 'api = "http://127.0.0.1:9"', host.config.read_text(), flags=re.MULTILINE
        )
    )
    with console_of(host) as machine:
        found = machine.get(f"{BASE}/discover", 503)

    must_be_described("/discover", "get", found)
    assert int(found.headers["Retry-After"]) > 0


def test_errors_are_in_the_language_of_the_request(kept: Machine) -> None:
    """The code stays."""
    english, chinese = (
        answered(kept, "/status", 404, name="x.example.net", lang=lang)["error"]
        for lang in ("en", "zh")
    )

    assert english["code"] == chinese["code"]
    assert english["message"] != chinese["message"]


# --- the OpenAPI document


def test_the_description_is_valid() -> None:
    """By the schema of OpenAPI 3.1 (spec.openapis.org/oas/3.1/schema/2022-10-07)."""
    schema = json.loads((DATA / "openapi-3.1.schema.json").read_text(encoding="utf-8"))
    registry: Registry[Any] = Registry().with_resource(
        schema["$id"], Resource.from_contents(schema)
    )

    Draft202012Validator(schema, registry=registry).validate(DESCRIBED)

    for part in DESCRIBED["components"]["schemas"].values():
        Draft202012Validator.check_schema(part)
    written = json.dumps(DESCRIBED)
    for reference in set(re.findall(r'"\$ref": "#/components/schemas/([^"]+)"', written)):
        assert reference in DESCRIBED["components"]["schemas"]


def test_every_operation_has_a_name_of_its_own() -> None:
    """Programs make functions of them."""
    ids = [one["operationId"] for path in DESCRIBED["paths"].values() for one in path.values()]

    assert len(OPERATIONS) == len(set(ids))
    assert all(re.fullmatch(r"[a-z_]+", one) for one in ids)


def test_the_description_is_served(kept: Machine) -> None:
    """With the addresses as they are behind the console's URL."""
    found = kept.get(f"{BASE}/openapi.json").json()

    assert {**DESCRIBED, "servers": [{"url": BASE}]} == found
