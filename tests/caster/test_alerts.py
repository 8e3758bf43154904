"""Alarms reach people by webhook and e-mail: gathered, limited, to owners too; nobody waits for an addressee."""

import asyncio
import itertools
import json
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from caster.alarms import Alarm
from caster.alerts import Alerts, Mailbox
from caster.config import AlertsConfig, load_config
from caster.errors import ConfigError
from tests.caster.broker import free_port
from tests.caster.conftest import PATIENCE_S, Service, StartService, frame

SILENT = Alarm("silent", "STR1", True, 1_778_832_031.0, 1_778_832_016.0, 31.2, 15.0, "no data for 31 s")
GATHER_S, REPEAT_S = 20.0, 900.0


def cleared(alarm: Alarm = SILENT) -> Alarm:
    return replace(alarm, raised=False, time_s=alarm.time_s + 60)


def mailbox(**settings: Any) -> Mailbox:
    return Mailbox(AlertsConfig(gather_s=GATHER_S, repeat_s=REPEAT_S, **settings))


def told(box: Mailbox, events: list[tuple[float, Alarm]], until_s: float) -> list[tuple[float, list[Alarm]]]:
    """What an addressee is told, looking once a second."""
    messages = []
    for second in range(round(until_s)):
        for _, alarm in (event for event in events if event[0] == second):
            box.offer(alarm, float(second))
        if alarms := box.take(float(second)):
            messages.append((float(second), alarms))
    return messages


def test_alarms_that_come_together_are_one_message():
    other = replace(SILENT, mount="STR2")
    assert told(mailbox(), [(5, SILENT), (12, other)], 60) == [(25.0, [SILENT]), (32.0, [other])]
    assert told(mailbox(), [(5, SILENT), (5, other)], 60) == [(25.0, [SILENT, other])]


def test_what_is_over_before_it_was_told_is_not_told():
    assert told(mailbox(), [(5, SILENT), (15, cleared())], 100) == []


def test_the_end_of_an_alarm_that_was_told_is_told_soon():
    assert told(mailbox(), [(0, SILENT), (60, cleared())], 100) == [(20.0, [SILENT]), (80.0, [cleared()])]


def test_an_alarm_that_comes_and_goes_is_raised_again_after_the_repeat_time():
    flapping = [(t, SILENT if k % 2 == 0 else cleared()) for k, t in enumerate(range(0, 1801, 60))]
    messages = told(mailbox(), flapping, 4000)
    raised = [when for when, alarms in messages for alarm in alarms if alarm.raised]
    assert len(messages) <= 6 and all(b - a >= REPEAT_S for a, b in itertools.pairwise(raised))
    assert messages[-1][1] == [SILENT]  # the state that it was left in


def test_there_is_a_limit_of_messages_an_hour_and_what_is_over_it_comes_in_one():
    events = [(float(60 * k), replace(SILENT, mount=f"M{k}")) for k in range(10)]
    messages = told(mailbox(hourly_max=3), events, 4000)
    assert [len(alarms) for _, alarms in messages] == [1, 1, 1, 7] and messages[3][0] == 3620.0


def test_a_full_mailbox_counts_what_it_drops():
    box = mailbox(queue_max=2)
    for k in range(5):
        box.offer(replace(SILENT, mount=f"M{k}"), 0.0)
    assert (len(box), box.dropped) == (2, 3)


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 3000), st.sampled_from(["A", "B"]), st.booleans()), max_size=40))
def test_in_the_end_everybody_knows_the_last_state(events):
    """Whatever comes, what was told last of a station is how it is; and it changes with each telling."""
    timed = [(float(t), replace(SILENT, mount=m, raised=r)) for t, m, r in sorted(events, key=lambda e: e[0])]
    messages = told(mailbox(hourly_max=1000), timed, 5000)
    for mount in ("A", "B"):
        states = [a.raised for _, alarms in messages for a in alarms if a.mount == mount]
        assert states == [k % 2 == 0 for k in range(len(states))]
        last = [alarm.raised for _, alarm in timed if alarm.mount == mount]
        assert (states or [False])[-1] == (last or [False])[-1]


# ----- with real servers


class Inbox:
    """A mail server's handler that keeps what it gets."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], Message]] = []
        self.logins: list[str] = []
        self.refuse = 0

    async def handle_DATA(self, _server: object, _session: object, envelope: Envelope) -> str:
        if self.refuse:
            self.refuse -= 1
            return "451 greylisted, come back"
        assert isinstance(envelope.content, bytes)
        self.mails.append((envelope.rcpt_tos, message_from_bytes(envelope.content)))
        return "250 OK"

    def login(self, _server: object, _session: object, _envelope: object, _how: str, data: object) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.logins.append(data.login.decode())
        return AuthResult(success=data.password == b"pa ss")


@asynccontextmanager
async def mail_server(inbox: Inbox, tls: Any = None) -> AsyncIterator[int]:
    secure: dict[str, Any] = {"tls_context": tls, "authenticator": inbox.login, "auth_required": True} if tls else {}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(inbox, enable_SMTPUTF8=True, loop=loop, **secure), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


class Hook:
    """A web server that keeps what is posted to it."""

    def __init__(self) -> None:
        self.posts: list[tuple[str, dict[str, Any]]] = []
        self.answers: list[bytes] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        size = next(int(line[15:]) for line in head.split("\r\n") if line.lower().startswith("content-length:"))
        self.posts.append((head, json.loads(await reader.readexactly(size))))
        writer.write(self.answers.pop(0) if self.answers else b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()


@asynccontextmanager
async def web_server(hook: Hook) -> AsyncIterator[str]:
    async with await asyncio.start_server(hook.answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hooks/s3cret"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caster.alerts._TICK_S", 0.02)


QUICK = {
    "alerts.gather_s": 0.0, "alerts.retry_min_s": 0.02, "alerts.retry_max_s": 0.04, "alerts.smtp_security": "none",
    "alerts.timeout_s": 5.0, "caster.identifier": "Example network",
}  # fmt: skip


async def until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def alerts_of(service: Service) -> Alerts:
    return service.caster.operations.alerts


async def test_operators_get_a_mail(start: StartService) -> None:
    inbox = Inbox()
    async with mail_server(inbox) as port:
        to = {"alerts.smtp_host": "127.0.0.1", "alerts.smtp_port": port, "alerts.recipients": ["a@x.org", "b@x.org"]}
        service = await start(**QUICK, **to)
        alerts_of(service).on_alarm(SILENT)
        await until(lambda: inbox.mails)
        alerts_of(service).on_alarm(cleared())
        await until(lambda: len(inbox.mails) == 2)
    (recipients, mail), (_, after) = inbox.mails
    assert recipients == ["a@x.org", "b@x.org"] and mail["From"] == "dipper@localhost"
    assert (mail["Subject"], after["Subject"]) == (
        "[Example network] STR1: silent", "[Example network] STR1: silent is over",
    )  # fmt: skip
    assert "2026-05-15 08:00:31 UTC  STR1  silent: no data for 31 s" in str(mail.get_payload())
    assert "STR1  silent is over: it lasted 75 s" in str(after.get_payload())
    assert mail["Auto-Submitted"] == "auto-generated" and mail["Date"] and mail["Message-ID"]


async def test_a_mail_goes_over_tls_with_a_login(start: StartService, tmp_path: Path) -> None:
    authority, inbox = trustme.CA(), Inbox()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with mail_server(inbox, context) as port:
        to = {
            "alerts.smtp_host": "127.0.0.1", "alerts.smtp_port": port, "alerts.recipients": ["a@x.org"],
            "alerts.smtp_user": "dipper", "alerts.smtp_password": "pa ss", "alerts.ca_file": tmp_path / "ca.pem",
        }  # fmt: skip
        service = await start(**{**QUICK, "alerts.smtp_security": "starttls"}, **to)
        alerts_of(service).on_alarm(SILENT)
        await until(lambda: inbox.mails)
    assert inbox.logins == ["dipper"]


async def test_a_station_s_owner_is_told_of_it_alone(start: StartService) -> None:
    inbox = Inbox()
    async with mail_server(inbox) as port:
        mounts = [{"name": "STR1", "owner": "farmer@x.org"}, {"name": "STR2"}]
        service = await start(mounts=mounts, **QUICK, **{"alerts.smtp_host": "127.0.0.1", "alerts.smtp_port": port})
        alerts_of(service).on_alarm(replace(SILENT, mount="STR2"))
        alerts_of(service).on_alarm(SILENT)
        await until(lambda: inbox.mails)
        await until(lambda: not any(alerts_of(service)._mailboxes.values()))
    assert [recipients for recipients, _ in inbox.mails] == [["farmer@x.org"]]


async def test_a_webhook_gets_json_with_its_token(start: StartService) -> None:
    hook = Hook()
    async with web_server(hook) as url:
        service = await start(**QUICK, **{"alerts.webhooks": [f"{url}?a=b"], "alerts.webhook_token": "t0ken"})
        alerts_of(service).on_alarm(SILENT)
        alerts_of(service).on_alarm(replace(SILENT, mount="STR2"))
        await until(lambda: hook.posts)
    head, body = hook.posts[0]
    assert head.startswith("POST /hooks/s3cret?a=b HTTP/1.1\r\n") and "Authorization: Bearer t0ken\r\n" in head
    assert body["caster"] == "Example network" and body["text"].count("\n") == 1
    assert body["alarms"][0] == {
        "name": "silent", "mount": "STR1", "raised": True, "time_s": 1778832031.0, "since_s": 1778832016.0,
        "value": 31.2, "limit": 15.0, "text": "no data for 31 s",
    }  # fmt: skip


async def test_a_delivery_that_fails_is_tried_again_and_the_reason_said_once(start: StartService) -> None:
    hook, inbox = Hook(), Inbox()
    hook.answers = [b"HTTP/1.1 500 Oops\r\n\r\n", b"garbage\r\n", b""]
    inbox.refuse = 2
    async with web_server(hook) as url, mail_server(inbox) as port:
        to = {"alerts.smtp_host": "127.0.0.1", "alerts.smtp_port": port, "alerts.recipients": ["a@x.org"]}
        service = await start(**QUICK, **to, **{"alerts.webhooks": [url]})
        with capture_logs() as logs:
            alerts_of(service).on_alarm(SILENT)
            await until(lambda: alerts_of(service).sent == 2)
    reasons = [log["reason"] for log in logs if log["event"] == "alarms cannot be told"]
    assert len(hook.posts) == 4 and alerts_of(service).failed == 5
    assert len([reason for reason in reasons if "greylisted" in reason]) == 1
    assert "webhook http://127.0.0.1: answered 500" in reasons and not any("s3cret" in reason for reason in reasons)


async def test_an_addressee_that_is_away_holds_up_nobody(start: StartService) -> None:
    """One webhook never answers, one is not there; the other gets its message, and the service stops at once."""
    hook = Hook()
    held: list[asyncio.StreamWriter] = []
    silence = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
    deaf = f"http://127.0.0.1:{silence.sockets[0].getsockname()[1]}/"
    async with silence, web_server(hook) as url:
        away = f"http://127.0.0.1:{free_port()}/"
        service = await start(**{**QUICK, "alerts.timeout_s": 3600}, **{"alerts.webhooks": [deaf, away, url]})
        alerts_of(service).on_alarm(SILENT)
        await until(lambda: hook.posts)
        source = await service.feed("OPEN")
        await source.send(frame(1005))
        began = time.monotonic()
        await service.caster.operations.stop()
        assert time.monotonic() - began < 5.0
        held[0].close()


async def test_a_message_is_given_up_after_the_last_try(start: StartService) -> None:
    away = f"http://127.0.0.1:{free_port()}/"
    service = await start(**QUICK, **{"alerts.webhooks": [away], "alerts.attempts_max": 3})
    alerts_of(service).on_alarm(SILENT)
    await until(lambda: alerts_of(service).given_up == 1)
    assert alerts_of(service).failed == 3
    lost = {sample.name: sample.value for metric in alerts_of(service).metrics() for sample in metric.samples}
    assert lost["dipper_alerts_lost_total"] == 1


async def test_only_the_alarms_that_were_asked_for_are_told(start: StartService) -> None:
    service = await start(**QUICK, **{"alerts.webhooks": ["http://127.0.0.1:1/"], "alerts.alarms": ["sil*"]})
    alerts_of(service).on_alarm(replace(SILENT, name="cn0"))
    assert not alerts_of(service)._mailboxes


async def test_a_station_that_falls_silent_is_told_from_end_to_end(start: StartService) -> None:
    """The monitor raises the alarm from a real stream, and the webhook has it."""
    hook = Hook()
    limits = {"health.period_s": 0.05, "health.hold_s": 0.0, "health.silent_s": 0.2}
    async with web_server(hook) as url:
        service = await start(**QUICK, **limits, **{"alerts.webhooks": [url], "alerts.alarms": ["silent"]})
        source = await service.feed("OPEN")
        await source.send(frame(1005))
        await until(lambda: hook.posts)
    assert hook.posts[0][1]["alarms"][0]["mount"] == "OPEN" and hook.posts[0][1]["alarms"][0]["name"] == "silent"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('webhooks = ["ftp://x/"]', "not an address such as https"),
        ('recipients = ["a@x.org"]', "smtp_host: mail to recipients needs a server"),
        ('sender = "nobody"', "alerts.sender"),
    ],
)
def test_a_wrong_configuration_names_the_key(tmp_path: Path, lines: str, message: str) -> None:
    (tmp_path / "c.toml").write_text(f"[alerts]\n{lines}\n")
    with pytest.raises(ConfigError, match=message):
        load_config(tmp_path / "c.toml")
