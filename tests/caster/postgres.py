"""A real PostgreSQL of our own: an unprivileged cluster in a temporary folder, on a Unix socket alone."""

import asyncio
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

import asyncpg
import pytest

USER = "tests"


def program(name: str) -> str | None:
    """A program of PostgreSQL: Debian keeps them out of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else shutil.which(name)


def _unprivileged() -> dict[str, object]:
    """PostgreSQL does not run as root: who it is to run as."""
    if os.geteuid():
        return {}
    entry = next(entry for name in ("postgres", "nobody") for entry in pwd.getpwall() if entry.pw_name == name)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


class Cluster:
    """Made once for all tests; each test gets a database of its own."""

    def __init__(self) -> None:
        initdb, self._pg_ctl = program("initdb"), program("pg_ctl")
        if initdb is None or self._pg_ctl is None:
            pytest.skip("no PostgreSQL: apt-get install postgresql")
        self._as = _unprivileged()
        self._folder = Path(tempfile.mkdtemp(prefix="pg"))
        if self._as:
            os.chown(self._folder, int(str(self._as["user"])), int(str(self._as["group"])))
        self._data = self._folder / "data"
        self._numbers = itertools.count()
        self._run(initdb, "-D", str(self._data), "-U", USER, "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
        self.start()

    def start(self) -> None:
        options = f"-c listen_addresses='' -c unix_socket_directories={self._folder} -c fsync=off -c max_connections=50"
        self._control("start", "-o", options, "-l", str(self._folder / "log"))

    def stop(self) -> None:
        self._control("stop", "-m", "immediate")

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._folder)

    async def new_database(self) -> str:
        """The URL of an empty database."""
        name = f"test{next(self._numbers)}"
        connection = await asyncpg.connect(user=USER, host=str(self._folder), database="postgres")
        try:
            await connection.execute(f"CREATE DATABASE {name}")
        finally:
            await connection.close()
        return f"postgresql://{USER}@/{name}?host={self._folder}"

    def _control(self, *arguments: str) -> None:
        assert self._pg_ctl is not None
        self._run(self._pg_ctl, "-D", str(self._data), "-w", "-t", "60", *arguments)

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=self._folder, timeout=120, **self._as
        )
        assert done.returncode == 0, done.stderr.decode()


def new_database(cluster: Cluster) -> str:
    """The same, outside of an event loop."""
    return asyncio.run(cluster.new_database())
