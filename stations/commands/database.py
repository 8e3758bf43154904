"""What the commands share that work on the service's database, whether the service runs or not."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from caster.errors import ConfigError, DipperError

if TYPE_CHECKING:
    from caster.database import Database

__all__ = ["ConfigFile", "DataDir", "with_database"]

DataDir = Annotated[
    Path | None, typer.Option("--data-dir", envvar="DIPPER_DATA_DIR", help="Where the service keeps its data.")
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="The service's configuration file.")]

_T = TypeVar("_T")


def with_database(data_dir: Path | None, config: Path | None, work: "Callable[[Database], Awaitable[_T]]") -> _T:
    """Open the database of a service, work on it, and close it.

    Raises:
        ConfigError: There is none, and none can be made.
        DipperError: It fails.
    """
    import asyncio

    from caster.config import load_config
    from caster.database import Database

    settings = load_config(config, data_dir=data_dir)
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"data_dir: {settings.data_dir}: {error.strerror}") from None

    async def run() -> _T:
        database = Database(settings.database_url)
        try:
            await database.open()
            return await work(database)
        except database.errors as error:
            raise DipperError(f"the database {database.url}: {str(error).partition(chr(10))[0]}") from None
        finally:
            await database.close()

    return asyncio.run(run())
