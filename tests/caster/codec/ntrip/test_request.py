"""Request heads as receivers, browsers and port scanners send them (quirks 1 to 11 of the field)."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caster.codec.ntrip.auth import Credentials
from caster.codec.ntrip.request import Request, RequestReader, TlsHello
from caster.errors import RemoteProtocolError


def read(data: bytes) -> Request:
    request = RequestReader().receive_data(data)
    assert isinstance(request, Request)
    return request


@pytest.mark.parametrize(
    "head",
    [
        b"GET /M HTTP/1.0\r\nUser-Agent: NTRIP x/1\r\n\r\n",
        b"GET /M HTTP/1.1\nuser-agent:NTRIP x/1   \n\n",
        b"GET /M HTTP/1.1\r\nUSER-AGENT : NTRIP x/1\r\nNtrip-Version:\r\n\r\n",
        b"\r\nGET /M HTTP/1.0\r\nUser-Agent: NTRIP x/1\r\n \r\n",
    ],
)
def test_quirk_01_line_ends_header_case_and_spaces_do_not_matter(head: bytes) -> None:
    request = read(head)
    assert (request.method, request.mount, request.version, request.agent) == ("GET", "M", 1, "NTRIP x/1")


def test_quirk_01_a_request_line_alone_is_taken_when_the_client_sends_no_more() -> None:
    reader = RequestReader()
    assert reader.receive_data(b"GET /\r\n") is None
    request = reader.receive_eof()
    assert request is not None and request.mount == "" and request.http == ""
    assert RequestReader().receive_eof() is None


@pytest.mark.parametrize(
    ("value", "version"),
    [("NTRIP/2.0", 2), ("Ntrip/2.0", 2), ("ntrip/2", 2), ("", 1), ("Ntrip/1.0", 1), ("2.0", 1)],
)
def test_quirk_02_only_the_ntrip_version_header_makes_version_2(value: str, version: int) -> None:
    assert read(f"GET /M HTTP/1.1\r\nHost: x\r\nNtrip-Version: {value}\r\n\r\n".encode()).version == version


def test_quirk_03_a_browser_is_told_from_a_rover() -> None:
    browser = read(b"GET / HTTP/1.1\r\nUser-Agent: Mozilla/5.0\r\nAccept: text/html,*/*\r\n\r\n")
    rover = read(b"GET / HTTP/1.1\r\nUser-Agent: NTRIP Mozilla\r\nAccept: text/html\r\n\r\n")
    curl = read(b"GET / HTTP/1.1\r\nUser-Agent: curl/8\r\nAccept: */*\r\n\r\n")
    assert (browser.from_browser, rover.from_browser, curl.from_browser) == (True, False, False)


@pytest.mark.parametrize(
    ("target", "mount", "query"),
    [
        ("http://caster:2101/M", "M", ""),
        ("HTTP://user@caster/M?a=b", "M", "a=b"),
        ("http://caster:2101", "", ""),
        ("/M%20", "M", ""),
        ("M", "M", ""),
        ("//M", "M", ""),
        ("/M/", "M", ""),
        ("/M?x;y", "M", "x;y"),
        ("/?match=STR;;;;;;;;CHN&strict", "", "match=STR;;;;;;;;CHN&strict"),
        ("/", "", ""),
    ],
)
def test_quirk_04_targets_in_every_form(target: str, mount: str, query: str) -> None:
    request = read(f"GET {target} HTTP/1.1\r\n\r\n".encode())
    assert (request.mount, request.query) == (mount, query)


@pytest.mark.parametrize(
    ("line", "password", "mount"),
    [
        ("SOURCE pw M", "pw", "M"),
        ("SOURCE pw /M", "pw", "M"),
        ("SOURCE pw /M HTTP/1.1", "pw", "M"),
        ("SOURCE user:p%w /M", "user:p%w", "M"),
        ("SOURCE two words /M", "two words", "M"),
        ("SOURCE  /M", "", "M"),
        ("SOURCE /M", "", "M"),
        ("source pw /M", "pw", "M"),
    ],
)
def test_quirk_05_source_lines(line: str, password: str, mount: str) -> None:
    request = read(f"{line}\r\nSTR:\r\n\r\n".encode())
    assert (request.method, request.password, request.mount, request.agent) == ("SOURCE", password, mount, "")
    assert request.stream_record == ""


def test_quirk_06_a_post_says_how_its_body_comes() -> None:
    chunked = read(b"POST /M HTTP/1.1\r\nTransfer-Encoding: Chunked\r\nExpect: 100-Continue\r\n\r\n3\r\n")
    plain = read(b"POST /M HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
    assert (chunked.chunked, chunked.expects_continue, chunked.version) == (True, True, 2)
    assert (plain.chunked, plain.expects_continue, plain.version) == (False, False, 2)


def test_quirk_07_bytes_after_the_head_are_kept() -> None:
    reader = RequestReader()
    assert reader.receive_data(b"GET /M HTTP/1.0\r\n\r\n$GPGGA,\xd3\r\n\r\n")
    assert reader.trailing == b"$GPGGA,\xd3\r\n\r\n"


def test_quirk_07_the_ntrip_gga_header() -> None:
    assert read(b"GET /M HTTP/1.1\r\nNtrip-GGA: $GPGGA,1,2\r\n\r\n").gga == "$GPGGA,1,2"


def test_quirk_09_a_tls_hello_is_recognised() -> None:
    reader = RequestReader()
    assert reader.receive_data(b"\x16") is None
    assert isinstance(reader.receive_data(b"\x03\x01\x02\x00\x01"), TlsHello)


@pytest.mark.parametrize(
    "garbage", [b"\x00\x01", b"\xd3\x00\x13", b"$GPGGA,1\r\n\r\n", b"GET\r\n\r\n", b"-1 /\r\n\r\n"]
)
def test_quirk_09_garbage_is_refused(garbage: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        RequestReader().receive_data(garbage)


def test_quirk_10_a_flood_of_header_bytes_is_refused_at_the_limit() -> None:
    reader = RequestReader(bytes_max=8192)
    reader.receive_data(b"GET /M HTTP/1.0\r\nX: ")
    with pytest.raises(RemoteProtocolError, match="8192 bytes") as caught:
        for _ in range(9000):
            reader.receive_data(b"a")
    assert caught.value.status == 431


def test_quirk_10_a_flood_of_header_lines_is_refused_at_the_limit() -> None:
    with pytest.raises(RemoteProtocolError, match="64 lines"):
        RequestReader(lines_max=64).receive_data(b"GET /M HTTP/1.0\r\n" + b"a: b\r\n" * 64)


def test_quirk_10_lines_that_are_no_headers_are_skipped() -> None:
    request = read(b"GET /M HTTP/1.0\r\nICY 200 OK\r\n: x\r\nHost: h\r\n\r\n")
    assert request.headers == {"host": "h"}


def basic(raw: bytes) -> bytes:
    return b"GET /M HTTP/1.0\r\nAuthorization: Basic " + raw + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("encoded", "credentials"),
    [
        (base64.b64encode(b"u:p:w"), Credentials("u", "p:w")),
        (base64.b64encode(b"user:p").rstrip(b"="), Credentials("user", "p")),
        (base64.b64encode("u:北斗".encode()), Credentials("u", "北斗")),
        (base64.b64encode("u:é".encode("latin-1")), Credentials("u", "é")),
        (base64.b64encode(b"u:???>>>").translate(bytes.maketrans(b"+/", b"-_")), Credentials("u", "???>>>")),
        (b"dXNl\r\n cjpw", Credentials("user", "p")),
        (b"dXNl\r\ncjpw", Credentials("user", "p")),
        (b"!!!", None),
        (base64.b64encode(b"no colon"), None),
        (b"dXNl" * 500, None),
    ],
)
def test_quirk_11_basic_credentials_in_every_form(encoded: bytes, credentials: Credentials | None) -> None:
    assert read(basic(encoded)).credentials == credentials


def test_quirk_11_digest_credentials_are_no_credentials() -> None:
    assert read(b'GET /M HTTP/1.0\r\nAuthorization: Digest username="u"\r\n\r\n').credentials is None


def test_rovers_that_asked_for_the_same_keep_one_request_without_its_secrets() -> None:
    head = b"GET /STR1?x=1 HTTP/1.1\r\nUser-Agent: NTRIP a\r\nAuthorization: Basic %s\r\nNtrip-GGA: $GPGGA,\r\n\r\n"
    first, second = (read(head % base64.b64encode(user)).lasting() for user in (b"ann:one", b"bob:two"))
    assert first is second
    assert (first.mount, first.query, first.agent, first.http) == ("STR1", "x=1", "NTRIP a", "HTTP/1.1")
    assert first.credentials is None
    assert first.headers == {"user-agent": "NTRIP a"}


def test_quirk_11_a_mount_keeps_its_case() -> None:
    assert read(b"GET /MoUnT HTTP/1.0\r\n\r\n").mount == "MoUnT"


HEAD = b"GET /M HTTP/1.1\r\nNtrip-Version: Ntrip/2.0\r\nAuthorization: Basic dXNlcjpw\r\n\r\nbody"


@given(st.lists(st.integers(1, len(HEAD) - 1), max_size=20))
def test_a_head_may_be_split_anywhere(cuts: list[int]) -> None:
    reader, whole = RequestReader(), read(HEAD)
    at, after = 0, b""
    found = None
    for cut in [*sorted(set(cuts)), len(HEAD)]:
        if found is None:
            found = reader.receive_data(HEAD[at:cut])
            after = reader.trailing
        else:
            after += HEAD[at:cut]
        at = cut
    assert (found, after) == (whole, b"body")


@given(
    st.binary(max_size=600) | st.builds(lambda a, b: b"GET /" + a + b"\r\n" + b + b"\r\n\r\n", st.binary(), st.binary())
)
def test_any_bytes_give_a_request_or_the_documented_error(data: bytes) -> None:
    reader = RequestReader(bytes_max=256, lines_max=8)
    try:
        found = reader.receive_data(data)
        if found is None:
            reader.receive_eof()
    except RemoteProtocolError:
        pass
