"""Commands that go on until somebody ends them."""

import asyncio
import contextlib
import signal
from collections.abc import Coroutine

__all__ = ["run_to_end"]


def run_to_end(work: Coroutine[None, None, None]) -> None:
    """Run until the work is done, or until Ctrl-C or SIGTERM, which are no error: what was opened is closed in form."""

    async def run() -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await work

    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(run())
