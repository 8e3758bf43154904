"""RTKLIB's real-time receiver as one rover of a caster: its base from a mountpoint, its own observations over TCP.

`rtkrcv` positions one rover a process. Debian's 2.4.3 b34 numbers the types of its streams wrongly, so that `ntripcli`
opens an FTP stream: str2str, of the same library, reads the mountpoint and hands it over by TCP. Its cycle is the 10 ms
of its manual's example; dual frequency, GPS, Galileo and BeiDou, and its defaults otherwise.
"""

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.processes import BenchError, started

__all__ = ["RTKRCV_CONFIGURATION", "running_rtkrcv"]

_HOST: Final = "127.0.0.1"
_START_S: Final = 10.0
RTKRCV_CONFIGURATION: Final = """
console-timetype   =gpst
inpstr1-type       =tcpcli
inpstr1-path       =127.0.0.1:{rover}
inpstr1-format     =rtcm3
inpstr2-type       =tcpcli
inpstr2-path       =127.0.0.1:{base}
inpstr2-format     =rtcm3
inpstr2-nmeareq    =off
inpstr3-type       =off
outstr1-type       ={kind}
outstr1-path       ={answers}
outstr1-format     =nmea
outstr2-type       =off
logstr1-type       =off
logstr2-type       =off
logstr3-type       =off
misc-svrcycle      =10
misc-reconnect     =500
misc-navmsgsel     =all
pos1-posmode       =kinematic
pos1-frequency     =l1+2
pos1-navsys        =41
pos1-elmask        =10
pos2-armode        =continuous
pos2-bdsarmode     =on
ant2-postype       =rtcm
file-cmdfile1      =
file-cmdfile2      =
"""
"""To be filled in: the ports that `rover` and `base` come from, and kind and path of the stream of `answers`."""


@contextlib.contextmanager
def running_rtkrcv(
    programs: tuple[Path, Path], mount: str, ports: tuple[int, int, int, int], folder: Path
) -> Iterator[int]:
    """The receiver for the length of a `with` block: its process.

    Args:
        programs: rtkrcv and str2str.
        mount: The base's mountpoint, as str2str has it (`ntrip://USER:PASSWORD@HOST:PORT/MOUNT`).
        ports: Where it fetches its stream, where it brings its answers, and two that are free.
        folder: For its files.

    Raises:
        BenchError: It does not start.
    """
    rover, answers, base, console = ports
    configuration = folder / "rtkrcv.conf"
    bring = f"{_HOST}:{answers}"
    configuration.write_text(RTKRCV_CONFIGURATION.format(rover=rover, base=base, kind="tcpcli", answers=bring))
    rtkrcv, str2str = programs
    with (
        started([str2str, "-in", mount, "-out", f"tcpsvr://:{base}"], folder / "str2str.log"),
        started(  # it leaves files where it runs
            ["env", f"--chdir={folder}", rtkrcv, "-p", str(console), "-o", configuration], folder / "rtkrcv.log"
        ) as process,
        _console(console),
    ):
        yield process.pid


@contextlib.contextmanager
def _console(port: int) -> Iterator[None]:
    """Log in and start: with `-s` this version crashes where its console is a port."""
    deadline_s = time.monotonic() + _START_S
    while True:
        try:
            console = socket.create_connection((_HOST, port), timeout=_START_S)
            break
        except OSError:
            if time.monotonic() > deadline_s:
                raise BenchError("rtkrcv does not listen") from None
            time.sleep(0.1)
    with console:
        for prompt, line in ((b"password: ", b"admin\r\n"), (b"rtkrcv> ", b"start\r\n"), (b"start", b"")):
            said = b""
            while prompt not in said:
                if not (data := console.recv(4096)):
                    raise BenchError("rtkrcv does not start")
                said += data
            console.sendall(line)
        yield
