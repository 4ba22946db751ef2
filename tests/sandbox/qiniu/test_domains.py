"""CDN domains at the Qiniu stand-in: reading, changing, and what happens in between."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from certferry_sandbox.authority import Authority, Issued
from certferry_sandbox.qiniu.service import QiniuService
from tests.sandbox import qiniu_calls as calls
from tests.sandbox.qiniu_calls import OK, Client, Clock, code, refusal

WWW = "www.example.com"
DEFAULT_PROCESSING = 0.3


@pytest.fixture
def old(stand_in: QiniuService) -> str:
    """Have an HTTPS domain, and give the certificate it is bound to."""
    cert_id = calls.seed(stand_in, [WWW])
    stand_in.add_domain(WWW, https=cert_id, force_https=True, http2=True)
    return cert_id


@pytest.fixture
def new(stand_in: QiniuService) -> str:
    """Give a certificate that could be bound."""
    return calls.seed(stand_in, [WWW, "*.example.com"], "new")


def https_of(client: Client, name: str = WWW) -> Any:
    """Read a domain's https object."""
    return client.domain(name).json().get("https", "missing")


def state_of(client: Client, name: str = WWW) -> tuple[str, str, str]:
    """Read a domain's state, the operation, and the description."""
    found = client.domain(name).json()
    return found["operatingState"], found["operationType"], found["operatingStateDesc"]


def test_read_gives_the_object_itself(client: Client, old: str) -> None:
    """No code around it; https with its certificate, times in Beijing."""
    found = client.domain(WWW).json()

    expected = {
        "name": WWW,
        "type": "normal",
        "protocol": "https",
        "product": "cdn",
        "platform": "web",
        "operatingState": "success",
        "couldOperateBySelf": True,
        "createAt": "2026-05-01T20:00:00+08:00",
        "https": {"certId": old, "forceHttps": True, "http2Enable": True, "freeCert": False},
    }
    assert expected == {key: found[key] for key in expected}
    assert "code" not in found


def test_unknown_domain_is_404001_on_read(client: Client) -> None:
    """The words are Qiniu's."""
    answer = client.domain(WWW)

    assert refusal(404001) == code(answer)
    assert "无此域名" == answer.json()["error"]


@pytest.mark.parametrize("call", ["httpsconf", "sslize"])
def test_unknown_domain_is_612_on_write(client: Client, new: str, call: str) -> None:
    """Another answer than on read: HTTP 612."""
    answer = getattr(client, call)("*.example.com", new)

    assert (612, 612) == code(answer)
    assert "no such domain" == answer.json()["error"]
    assert (612, 612) == code(client.unsslize(WWW))


def test_list_has_no_https_and_is_paged(client: Client, stand_in: QiniuService) -> None:
    """Items tell state and kind alone; a marker leads to the rest."""
    names = [".example.com", "a.example.com", "b.example.com"]
    for name in names:
        stand_in.add_domain(name, product="dcdn" if name.startswith("b") else "cdn")
    first = client.domains("?limit=2").json()
    rest = client.domains(f"?limit=2&marker={first['marker']}").json()

    items = first["domains"] + rest["domains"]
    assert names == [item["name"] for item in items]
    assert ["wildcard", "normal", "normal"] == [item["type"] for item in items]
    assert ["cdn", "cdn", "dcdn"] == [item["product"] for item in items]
    assert not any("https" in item for item in items)
    assert ("", False) == (rest["marker"], "code" in rest)


def test_list_ends_with_an_empty_page(client: Client, stand_in: QiniuService) -> None:
    """After a full last page there is an empty one."""
    stand_in.add_domain(WWW)
    first = client.domains("?limit=1").json()
    last = client.domains(f"?limit=1&marker={first['marker']}").json()

    assert {"marker": "", "domains": []} == last


def test_list_shows_the_state_as_it_is_now(
    client: Client, clock: Clock, old: str, new: str
) -> None:
    """A change whose time is over is over in the list as well."""
    client.httpsconf(WWW, new)
    assert "processing" == client.domains().json()["domains"][0]["operatingState"]

    clock.advance(DEFAULT_PROCESSING)
    assert "success" == client.domains().json()["domains"][0]["operatingState"]


def test_change_takes_its_time(client: Client, clock: Clock, old: str, new: str) -> None:
    """200 at once, `processing` with the old certificate, then `success` with the new one."""
    answer = client.httpsconf(WWW, new, forceHttps=True, http2Enable=True)

    assert OK == code(answer)
    assert ("processing", "modify_https_conf", "") == state_of(client)
    assert old == https_of(client)["certId"]
    clock.advance(DEFAULT_PROCESSING - 0.001)
    assert "processing" == state_of(client)[0]
    clock.advance(0.001)
    assert ("success", "modify_https_conf", "") == state_of(client)
    assert {"certId": new, "forceHttps": True, "http2Enable": True, "freeCert": False} == (
        https_of(client)
    )


def test_change_under_way_refuses_the_next(
    client: Client, clock: Clock, old: str, new: str
) -> None:
    """400030 to every write while processing; afterwards the next change is taken."""
    client.httpsconf(WWW, new)

    assert refusal(400030) == code(client.httpsconf(WWW, old))
    assert refusal(400030) == code(client.sslize(WWW, old))
    assert refusal(400030) == code(client.unsslize(WWW))
    clock.advance(1)
    assert new == https_of(client)["certId"]
    assert OK == code(client.httpsconf(WWW, old))


def test_failed_change_keeps_the_old_certificate(
    client: Client, stand_in: QiniuService, clock: Clock, old: str, new: str
) -> None:
    """`failed` says why, leaves everything as it was, and lets the next change through."""
    stand_in.fail_next(WWW, "verify https crt fail")
    before = https_of(client)
    assert OK == code(client.httpsconf(WWW, new))
    clock.advance(1)

    assert ("failed", "modify_https_conf", "verify https crt fail") == state_of(client)
    assert before == https_of(client)
    assert OK == code(client.delete(new))
    other = calls.seed(stand_in, [WWW])
    assert OK == code(client.httpsconf(WWW, other))
    clock.advance(1)
    assert ("success", "modify_https_conf", "") == state_of(client)


def test_stuck_change_waits_for_its_release(
    client: Client, stand_in: QiniuService, clock: Clock, old: str, new: str
) -> None:
    """Held, a domain stays `processing` for hours; released, it ends at once."""
    stand_in.hold(WWW)
    client.httpsconf(WWW, new)
    clock.advance(7200)
    assert "processing" == state_of(client)[0]

    stand_in.release(WWW)
    assert "success" == state_of(client)[0]
    assert new == stand_in.bound(WWW)
    assert clock.now == stand_in.domain(WWW).https_modified


def test_domain_put_in_as_processing(client: Client, stand_in: QiniuService, new: str) -> None:
    """Another tool's operation under way ends by release alone."""
    stand_in.add_domain(WWW, state="processing")
    assert refusal(400030) == code(client.sslize(WWW, new))

    stand_in.release(WWW)
    assert OK == code(client.sslize(WWW, new))


def test_processing_time_is_a_setting(
    client: Client, stand_in: QiniuService, old: str, new: str
) -> None:
    """With no time at all, a change is through when it is looked at."""
    stand_in.domains.processing_time = timedelta(0)
    client.httpsconf(WWW, new)

    assert "success" == state_of(client)[0]
    assert new == https_of(client)["certId"]


@pytest.mark.parametrize(
    ("switch", "expected"),
    [("reset", (False, False, None)), ("kept", (True, True, ["TLSv1.3"]))],
)
def test_omitted_flags(
    client: Client, stand_in: QiniuService, clock: Clock, new: str, switch: Any, expected: Any
) -> None:
    """What a change leaves out is reset by default, and kept with the switch."""
    cert_id = calls.seed(stand_in, [WWW])
    stand_in.add_domain(WWW, https=cert_id, force_https=True, http2=True, tls_versions=["TLSv1.3"])
    stand_in.domains.omitted_flags = switch
    client.httpsconf(WWW, new)
    clock.advance(1)

    https = https_of(client)
    assert expected == (https["forceHttps"], https["http2Enable"], https.get("tlsVersions"))


def test_tls_versions_are_an_array(client: Client, clock: Clock, old: str, new: str) -> None:
    """A string gets the complaint of Go's decoder; an array is stored and shown."""
    answer = client.httpsconf(WWW, new, tlsVersions="TLSv1.2")
    assert refusal(400000) == code(answer)
    assert "UpdateHttpsConfArgs.tlsVersions of type []string" in answer.json()["error"]

    assert refusal(400000) == code(client.httpsconf(WWW, new, tlsVersions=["SSLv3"]))
    assert refusal(400000) == code(client.httpsconf(WWW, new, tlsVersions=[1.2]))
    assert OK == code(client.httpsconf(WWW, new, tlsVersions=["TLSv1.2", "TLSv1.3"]))
    clock.advance(1)
    assert ["TLSv1.2", "TLSv1.3"] == https_of(client)["tlsVersions"]


@pytest.mark.parametrize("flag", ["forceHttps", "http2Enable"])
def test_flags_are_booleans(client: Client, old: str, new: str, flag: str) -> None:
    """Neither a number nor a word will do."""
    for value in (1, "true"):
        answer = client.httpsconf(WWW, new, **{flag: value})
        assert refusal(400000) == code(answer)
        assert f"UpdateHttpsConfArgs.{flag} of type bool" in answer.json()["error"]


@pytest.mark.parametrize("key", ["certId", "certid", "certID"])
def test_certificate_id_in_any_case(
    client: Client, stand_in: QiniuService, clock: Clock, old: str, new: str, key: str
) -> None:
    """All three spellings are understood."""
    url = f"{stand_in.api_url}/domain/{WWW}/httpsconf"

    assert OK == code(client.qiniu("PUT", url, {key: new}))
    clock.advance(1)
    assert new == stand_in.bound(WWW)


def test_httpsconf_of_an_http_domain_is_400302(
    client: Client, stand_in: QiniuService, new: str
) -> None:
    """A domain without HTTPS wants sslize."""
    stand_in.add_domain(WWW)

    assert refusal(400302) == code(client.httpsconf(WWW, new))
    assert "success" == state_of(client)[0]


def test_sslize_turns_https_on(
    client: Client, stand_in: QiniuService, clock: Clock, new: str
) -> None:
    """Certificate and protocol change together, when the change is through."""
    stand_in.add_domain(WWW)
    assert "" == https_of(client)["certId"]

    assert OK == code(client.sslize(WWW, new, http2Enable=True))
    assert ("processing", "sslize", "") == state_of(client)
    assert "http" == client.domain(WWW).json()["protocol"]
    clock.advance(1)
    assert "https" == client.domain(WWW).json()["protocol"]
    assert {"certId": new, "forceHttps": False, "http2Enable": True, "freeCert": False} == (
        https_of(client)
    )


def test_sslize_of_an_https_domain(
    client: Client, stand_in: QiniuService, old: str, new: str
) -> None:
    """Refused as the console does; with the switch off, tolerated as has been seen."""
    assert refusal(400013) == code(client.sslize(WWW, new))

    stand_in.domains.refuse_repeated_sslize = False
    assert OK == code(client.sslize(WWW, new))


def test_unsslize_turns_https_off(
    client: Client, stand_in: QiniuService, clock: Clock, old: str
) -> None:
    """The certificate is free again when the change is through."""
    assert OK == code(client.unsslize(WWW))
    assert ("processing", "unsslize", "") == state_of(client)
    clock.advance(1)

    assert ("http", None) == (client.domain(WWW).json()["protocol"], stand_in.bound(WWW))
    assert refusal(400013) == code(client.unsslize(WWW))
    assert OK == code(client.delete(old))


@pytest.mark.parametrize(
    ("switch", "expected"),
    [
        (
            "empty",
            {"certId": "", "forceHttps": False, "http2Enable": False, "freeCert": False},
        ),
        ("null", None),
        ("missing", "missing"),
    ],
)
def test_http_domain_shows_no_https(
    client: Client, stand_in: QiniuService, switch: Any, expected: Any
) -> None:
    """Three ways in which a domain without HTTPS has been seen."""
    stand_in.add_domain(WWW)
    stand_in.domains.absent_https = switch

    assert expected == https_of(client)


@pytest.mark.parametrize(
    ("names", "domain"),
    [
        (["other.example.com"], WWW),
        (["*.example.com"], "a.www.example.com"),
        (["example.com", "www.example.com"], ".example.com"),
    ],
)
def test_certificate_that_does_not_cover_is_400326(
    client: Client, stand_in: QiniuService, names: list[str], domain: str
) -> None:
    """The names are looked at when binding, one label deep."""
    stand_in.add_domain(domain)

    assert refusal(400326) == code(client.sslize(domain, calls.seed(stand_in, names)))


def test_common_name_covers_nothing(client: Client, stand_in: QiniuService) -> None:
    """A certificate without DNS names matches no domain, whatever its subject says."""
    private = Authority("Private")
    bare = Issued(private.root_pem, private.intermediate_pem, private.root)
    stand_in.add_domain(WWW)

    assert refusal(400326) == code(client.sslize(WWW, stand_in.add_certificate(bare, "bare")))


def test_wildcard_domain_has_a_leading_dot(
    client: Client, stand_in: QiniuService, clock: Clock, new: str
) -> None:
    """It is addressed and stored so, and takes a certificate with the wildcard."""
    stand_in.add_domain(".example.com")

    assert OK == code(client.sslize(".example.com", new))
    clock.advance(1)
    found = client.domain(".example.com").json()
    assert ("wildcard", new) == (found["type"], found["https"]["certId"])


def test_pan_child_follows_its_parent(
    client: Client, stand_in: QiniuService, clock: Clock, new: str
) -> None:
    """It shows the parent's certificate, and cannot be configured itself."""
    stand_in.add_domain(".example.com")
    stand_in.add_domain(WWW, type="pan", parent=".example.com")
    assert refusal(400722) == code(client.sslize(WWW, new))

    client.sslize(".example.com", new)
    clock.advance(1)
    found = client.domain(WWW).json()
    assert (".example.com", new) == (found["pareDomain"], found["https"]["certId"])


def test_certificate_must_exist_and_be_owned(
    client: Client, stand_in: QiniuService, old: str
) -> None:
    """400401 for none, 404908 for another account's."""
    stand_in.add_account("other-key", "other-secret")
    foreign = stand_in.add_certificate(calls.issue(WWW), "theirs", account="other-key")

    assert refusal(400401) == code(client.httpsconf(WWW, "0" * 24))
    assert refusal(400401) == code(client.httpsconf(WWW, ""))
    assert refusal(404908) == code(client.httpsconf(WWW, foreign))


def test_domain_of_another_account(client: Client, stand_in: QiniuService, new: str) -> None:
    """Not to be seen, not to be changed."""
    stand_in.add_account("other-key", "other-secret")
    stand_in.add_domain(WWW, account="other-key")

    assert [] == client.domains().json()["domains"]
    assert refusal(404001) == code(client.domain(WWW))
    assert refusal(403023) == code(client.sslize(WWW, new))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"state": "frozen"}, 500923),
        ({"state": "offlined"}, 400320),
        ({"could_operate": False}, 400722),
    ],
)
def test_domain_that_cannot_be_changed(
    client: Client, stand_in: QiniuService, new: str, options: Any, expected: int
) -> None:
    """Frozen, offline, or not for self-service: each has its code, and can be read."""
    stand_in.add_domain(WWW, **options)

    assert refusal(expected) == code(client.sslize(WWW, new))
    found = client.domain(WWW).json()
    assert options.get("state", "success") == found["operatingState"]
    assert options.get("could_operate", True) == found["couldOperateBySelf"]


def test_change_that_changes_nothing(
    client: Client, stand_in: QiniuService, clock: Clock, old: str
) -> None:
    """Taken by default; 400910 with the switch, unless a flag differs."""
    same = {"forceHttps": True, "http2Enable": True}
    assert OK == code(client.httpsconf(WWW, old, **same))
    clock.advance(1)

    stand_in.domains.refuse_unchanged = True
    assert refusal(400910) == code(client.httpsconf(WWW, old, **same))
    assert OK == code(client.httpsconf(WWW, old, forceHttps=False, http2Enable=True))


def test_first_broken_rule_gives_the_code(client: Client, stand_in: QiniuService) -> None:
    """Domain, its state, then body, certificate, names, and the domain's protocol."""
    stand_in.add_domain(WWW)
    stand_in.add_domain("stuck.example.com", state="processing")
    other = calls.seed(stand_in, ["other.example.com"])

    assert (612, 612) == code(client.httpsconf("unknown.example.com", "none", tlsVersions=""))
    assert refusal(400030) == code(client.httpsconf("stuck.example.com", "none", tlsVersions=""))
    assert refusal(400000) == code(client.httpsconf(WWW, "none", tlsVersions=""))
    assert refusal(400401) == code(client.httpsconf(WWW, "none"))
    assert refusal(400326) == code(client.httpsconf(WWW, other))


# Where Qiniu's own words do not agree.


def test_a_failed_change_may_stick(
    clock: Clock, stand_in: QiniuService, client: Client, old: str, new: str
) -> None:
    """When told so: the domain names the new certificate, is `failed`, and the edges serve the
    old one.
    """
    stand_in.fail_next(WWW, sticks=True)
    client.httpsconf(WWW, new)
    clock.advance(DEFAULT_PROCESSING)

    assert (new, "failed") == (https_of(client)["certId"], state_of(client)[0])
    served = stand_in.domain(WWW).applied.at(clock())
    assert served is not None
    assert old == served.id


@pytest.mark.parametrize(
    ("absent", "shown"), [("empty", ""), ("null", None), ("missing", "missing")]
)
def test_https_may_be_hidden(
    absent: Any, shown: object, stand_in: QiniuService, client: Client, old: str
) -> None:
    """When told so: `protocol` is https, and `https` looks like that of a domain without."""
    stand_in.domains.absent_https = absent
    stand_in.domain(WWW).hides_https = True

    found = https_of(client)
    assert shown == (found["certId"] if isinstance(found, dict) else found)
    assert "https" == client.domain(WWW).json()["protocol"]
    assert refusal(400013) == code(client.sslize(WWW, old))


def test_a_free_certificate_is_https_without_an_id(
    clock: Clock, stand_in: QiniuService, client: Client, new: str
) -> None:
    """Changed by `httpsconf`, and no longer free after that."""
    stand_in.add_domain(WWW, free_certificate=True, http2=True)

    free = {"certId": "", "forceHttps": False, "http2Enable": True, "freeCert": True}
    assert free == https_of(client)
    assert refusal(400013) == code(client.sslize(WWW, new))
    assert OK == code(client.httpsconf(WWW, new))
    clock.advance(DEFAULT_PROCESSING)
    assert not stand_in.domain(WWW).https.free
