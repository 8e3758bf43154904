"""The administration interface, over its real listener: what it shows, what it changes, and whom it refuses."""

import asyncio
import json
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from caster.admin_api import BODY_MAX
from caster.codec.ntrip import Credentials, get_request
from caster.errors import ConfigError
from caster.tokens import TokenStore
from tests.caster.conftest import ROVER, Service, StartService, frame

DOCS = Path(__file__).resolve().parents[2] / "docs" / "admin-api.md"
GGA = b"$GPGGA,092725.00,4717.11399,N,00833.91590,E,4,08,1.01,499.6,M,48.0,M,,*5E\r\n"


@dataclass
class Operator:
    """A client of the interface of a running service."""

    service: Service
    token: str
    scheme: str = "http"
    context: ssl.SSLContext | None = None

    async def ask(self, method: str, path: str, body: Any = None, token: str | None = None) -> tuple[int, Any]:
        return await asyncio.to_thread(self._ask, method, path, body, self.token if token is None else token)

    def _ask(self, method: str, path: str, body: Any, token: str) -> tuple[int, Any]:
        admin = self.service.caster.admin
        assert admin is not None
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        url = f"{self.scheme}://localhost:{admin.port}/api/v1{path}"
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10, context=self.context) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"null")


async def make_operator(service: Service, **rights: Any) -> Operator:
    text = await TokenStore(service.caster.database).add("test", datetime.now(UTC), **rights)
    return Operator(service, text)


@pytest.fixture
async def operator(start: StartService) -> AsyncIterator[Operator]:
    yield await make_operator(await start(**{"admin.port": 0}))


async def rover_of(service: Service) -> Any:
    rover = await service.connect(get_request("M", "caster", version=1, credentials=ROVER) + GGA)
    await rover.until(b"\r\n\r\n")
    mountpoint = service.caster.mountpoints.get("M")
    assert mountpoint is not None
    await service.wait(lambda: len(mountpoint.mount) > 0)
    return rover


async def test_sessions_and_mounts_are_shown_and_sessions_ended(operator: Operator) -> None:
    service = operator.service
    source = await service.feed()
    rover = await rover_of(service)
    await source.send(frame(1077))
    await rover.until(b"\xd3")
    code, sessions = await operator.ask("GET", "/sessions?kind=rover")
    assert code == 200 and len(sessions) == 1
    assert sessions[0] | {"seconds": 0.0, "number": 0} == {
        "number": 0, "kind": "rover", "account": "rover", "group": "", "mount": "M", "address": "127.0.0.1",
        "agent": "NTRIP BigDipper/0.1", "seconds": 0.0, "sent_bytes": len(frame(1077)), "received_bytes": len(GGA),
        "dropped": 0, "latitude_deg": pytest.approx(47.28523, abs=1e-5), "longitude_deg": pytest.approx(8.565265),
        "quality": 4,
    }  # fmt: skip
    assert [each["number"] for each in (await operator.ask("GET", "/sessions?limit=1&offset=1"))[1]] == [
        sessions[0]["number"]
    ]
    code, mount = await operator.ask("GET", "/mounts/M")
    assert (mount["rovers"], mount["source"], mount["live"], mount["frames"]) == (1, "base", True, 1)
    assert [m["name"] for m in (await operator.ask("GET", "/mounts"))[1]] == ["M"]
    status = (await operator.ask("GET", "/status"))[1]
    assert (status["rovers"], status["sources"], status["mounts"]) == (1, 1, 1)
    assert (await operator.ask("GET", "/stations"))[0] == 200
    assert (await operator.ask("DELETE", f"/sessions/{sessions[0]['number']}")) == (200, {"ended": 1})
    await service.ended("rover", "sent away by the operator")
    assert (await operator.ask("DELETE", "/sessions?account=base")) == (200, {"ended": 1})
    assert (await operator.ask("DELETE", "/sessions/999"))[0] == 404
    assert (await operator.ask("DELETE", "/sessions"))[0] == 422
    assert (await operator.ask("GET", "/mounts/NONE"))[0] == 404


async def test_accounts_are_added_changed_and_removed_and_count_at_once(operator: Operator) -> None:
    service = operator.service
    await service.feed()

    async def login(password: str) -> bytes:
        peer = await service.connect(get_request("M", "x", version=2, credentials=Credentials("new", password)))
        return (await peer.until(b"\r\n"))[9:12]

    assert await login("secret") == b"401"
    code, created = await operator.ask("POST", "/accounts", {"name": "new", "password": "secret", "mounts": "M"})
    assert code == 201 and created["account"]["mounts"] == "M" and created["password"] is None
    assert await login("secret") == b"200"
    assert (await operator.ask("POST", "/accounts", {"name": "new"}))[0] == 409
    assert (await operator.ask("PATCH", "/accounts/new", {"password": "other"}))[0] == 200
    assert await login("secret") == b"401" and await login("other") == b"200"
    code, changed = await operator.ask("PATCH", "/accounts/new", {"disabled": True, "expires": "2031-01-31T00:00:00Z"})
    assert code == 200 and changed["disabled"] and changed["expires"] == "2031-01-31T00:00:00Z"
    assert await login("other") == b"403"
    assert (await operator.ask("DELETE", "/accounts/new"))[0] == 204
    assert (await operator.ask("GET", "/accounts/new"))[0] == 404
    code, created = await operator.ask("POST", "/accounts", {"name": "new", "role": "station"})
    assert await login(created["password"]) == b"200"
    names = [account["name"] for account in (await operator.ask("GET", "/accounts"))[1]]
    assert names == ["base", "new", "operator", "other", "rover"]
    assert "hash" not in json.dumps((await operator.ask("GET", "/accounts"))[1])


@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    [
        ("POST", "/accounts", {"name": "a:b"}, 422),
        ("POST", "/accounts", {"name": "a", "role": "king"}, 422),
        ("POST", "/accounts", {"name": "a", "group": "none"}, 422),
        ("POST", "/accounts", {"name": "a", "colour": "red"}, 422),
        ("POST", "/accounts", b"{", 422),
        ("POST", "/accounts", b'{"name": "' + b"a" * BODY_MAX + b'"}', 413),
        ("PATCH", "/accounts/nobody", {"disabled": True}, 404),
        ("PATCH", "/accounts/rover", {}, 422),
        ("PATCH", "/accounts/rover", {"mounts": None}, 422),
        ("DELETE", "/accounts/nobody", None, 404),
        ("DELETE", "/groups/nothing", None, 404),
        ("POST", "/bans", {"network": "here"}, 422),
        ("DELETE", "/bans/192.0.2.1/32", None, 404),
        ("GET", "/sessions?limit=0", None, 422),
        ("GET", "/usage?from=yesterday", None, 422),
        ("POST", "/reload", None, 409),
        ("GET", "/nothing", None, 404),
    ],
)
async def test_what_cannot_be_done_is_refused(operator: Operator, method: str, path: str, body: Any, code: int) -> None:
    assert (await operator.ask(method, path, body))[0] == code


async def test_groups_and_usage_are_shown(operator: Operator) -> None:
    quotas = {"max_sessions": 1, "day_bytes": 10, "month_bytes": 0}
    assert (await operator.ask("PUT", "/groups/g", quotas)) == (200, {"name": "g", **quotas, "spent": ""})
    assert (await operator.ask("PATCH", "/accounts/rover", {"group": "g"}))[1]["group"] == "g"
    service, usage = operator.service, operator.service.caster.usage
    assert usage is not None
    await service.feed()
    await rover_of(service)
    await usage.look(service.caster.server.connections)
    await usage.flush()
    (group,) = (await operator.ask("GET", "/groups"))[1]
    assert group["spent"] == "the group g has used up its 10 bytes of this day"
    (day,) = (await operator.ask("GET", f"/usage?account=rover&from={datetime.now(UTC) - timedelta(1):%Y-%m-%d}"))[1]
    assert day["account"] == "rover" and day["received_bytes"] == len(GGA)
    assert (await operator.ask("DELETE", "/groups/g"))[0] == 204


async def test_bans_count_at_once(operator: Operator) -> None:
    ban = {"network": "198.51.100.7", "reason": "loud", "seconds": 60}
    code, made = await operator.ask("POST", "/bans", ban)
    assert code == 201 and made["network"] == "198.51.100.7/32" and made["until"] > made["created"]
    assert operator.service.caster.bans.find("198.51.100.7") is not None
    assert [each["reason"] for each in (await operator.ask("GET", "/bans"))[1]] == ["loud"]
    assert (await operator.ask("DELETE", "/bans/198.51.100.7/32"))[0] == 204
    assert operator.service.caster.bans.find("198.51.100.7") is None


async def test_nobody_gets_in_without_a_token(operator: Operator) -> None:
    for token in ("", "wrong", "x" * 5000, "ü"):
        code, answer = await operator.ask("GET", "/accounts", token=token.encode().decode("latin-1"))
        assert code == 401 and "token" in answer["detail"]
    await TokenStore(operator.service.caster.database).remove("test")
    assert (await operator.ask("GET", "/accounts"))[0] == 401


async def test_a_token_that_expired_or_may_only_read_changes_nothing(start: StartService) -> None:
    service = await start(**{"admin.port": 0})
    reader = await make_operator(service, read_only=True)
    assert (await reader.ask("GET", "/accounts"))[0] == 200
    code, answer = await reader.ask("DELETE", "/accounts/rover")
    assert code == 403 and answer["detail"] == "the token test may change nothing"
    text = await TokenStore(service.caster.database).add("old", datetime.now(UTC), datetime.now(UTC))
    assert (await reader.ask("GET", "/accounts", token=text))[0] == 401


async def test_guessing_tokens_ends_in_a_ban(start: StartService) -> None:
    service = await start(**{"admin.port": 0, "listen.trusted": [], "bans.wrong_passwords": 3})
    operator = await make_operator(service)
    for _ in range(3):
        assert (await operator.ask("GET", "/status", token="guess"))[0] == 401
    code, answer = await operator.ask("GET", "/status")
    assert code == 429 and "3 wrong passwords" in answer["detail"]


async def test_the_configuration_is_read_again(operator: Operator) -> None:
    caster = operator.service.caster
    caster._read_config = lambda: caster.config.model_copy(update={"mounts": ()})
    assert (await operator.ask("POST", "/reload"))[0] == 204
    assert caster.config.mounts == ()


async def test_it_speaks_tls_where_it_is_told_to(start: StartService, tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.private_key_pem.write_to_path(key)
    issued.cert_chain_pems[0].write_to_path(certificate)
    files = {"admin.certificate": str(certificate), "admin.key": str(key)}
    operator = await make_operator(await start(**{"admin.port": 0, **files}))
    operator.scheme, operator.context = "https", ssl.create_default_context()
    authority.configure_trust(operator.context)
    assert (await operator.ask("GET", "/status"))[0] == 200


@pytest.mark.parametrize("keys", [{"certificate": "/no/such", "key": "/no/such"}, {"hosts": ["192.0.2.1"]}])
async def test_what_cannot_be_listened_with_is_named(start: StartService, keys: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"admin: (/no/such|192\.0\.2\.1)"):
        await start(**{"admin.port": 0, **{f"admin.{key}": value for key, value in keys.items()}})


async def test_the_database_being_away_is_told(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail() -> Any:
        raise OSError("no route to host")

    monkeypatch.setattr(operator.service.caster.store, "all", fail)
    assert (await operator.ask("GET", "/accounts")) == (503, {"detail": "the database: no route to host"})


async def test_openapi_describes_every_path(operator: Operator) -> None:
    code, described = await operator.ask("GET", "/openapi.json", token="")
    assert code == 200 and {"/api/v1/sessions", "/api/v1/bans/{network}"} <= set(described["paths"])
    assert described["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    for asked in (asked for methods in described["paths"].values() for asked in methods.values()):
        assert asked["security"] == [{"token": []}] and {"401", "403", "429", "503"} <= set(asked["responses"])
    text = DOCS.read_text()
    rows = {f"| `{method.upper()} {path.removeprefix('/api/v1')}" for path, methods in described["paths"].items()
            for method in methods}  # fmt: skip
    assert [row for row in sorted(rows) if row not in text] == []


def test_a_service_without_it_never_loads_what_it_needs() -> None:
    code = "import sys, caster.app; print(any(name in sys.modules for name in ('fastapi', 'uvicorn', 'alembic')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
