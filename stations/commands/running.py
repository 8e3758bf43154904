"""Commands that go on until somebody ends them."""

import asyncio
import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from caster.solving import Carriers

__all__ = ["aside", "compile_apart", "run_to_end"]


def run_to_end(work: Coroutine[None, None, None]) -> bool:
    """Run until the work is done, or until Ctrl-C or SIGTERM, which are no error: what was opened is closed in form.

    Returns:
        It was done.
    """

    async def run() -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await work

    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(run())
        return True
    return False


async def aside(work: Callable[[], object]) -> None:
    """Do something long in a thread that nobody waits for at the end: a compilation cannot be broken off."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def tell(error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(None)

    def run() -> None:
        error: BaseException | None = None
        try:
            work()
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the program has ended meanwhile
            loop.call_soon_threadsafe(tell, error)

    threading.Thread(target=run, name="aside", daemon=True).start()
    await done


async def compile_apart(carriers: "Carriers", *, says: bool = True) -> None:
    """Compile what rovers' carriers are followed with in a process of its own: that takes the interpreter's lock.

    Args:
        carriers: Told once the kernels are there.
        says: Whether a progress bar is shown on stderr.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "caster.warmup_steps",
        stdin=asyncio.subprocess.DEVNULL,
        stderr=None if says else asyncio.subprocess.DEVNULL,
    )
    try:
        carriers.compiled = await process.wait() == 0
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
