"""Ctrl-C and SIGTERM that wait for a safe point, and are not lost elsewhere.

A KeyboardInterrupt that strikes between two instructions of a pool may leave a lock held for ever,
and one that strikes in a finaliser is lost.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

_SOON = 0.01  # s


class StopRequest:
    """Handles the signals of a block: notes the first, and raises on a second Ctrl-C."""

    def __init__(self, *, raises: bool):
        self.raises = raises  # whether `check` does
        self.received = False  # not a threading.Event, whose lock the signal may find held

    def __call__(self, number: int, frame: object) -> None:
        del frame
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = True
        if number == signal.SIGINT:
            with contextlib.suppress(OSError):  # print() must not be called in a handler
                os.write(2, b"\nstopping; Ctrl-C again ends it at once.\n")


@contextlib.contextmanager
def deferred(*, raises: bool = True) -> Iterator[StopRequest]:
    """Defer Ctrl-C and SIGTERM to calls of `check` and to the end of the block.

    With `raises` false, neither raises anything, and the block polls `received`. A block within
    another one, or in another thread than the main one, leaves the signals as they are.
    """
    outer = _current()
    if outer or threading.current_thread() is not threading.main_thread():
        yield outer or StopRequest(raises=False)
        return
    request = StopRequest(raises=raises)
    before = {s: signal.signal(s, request) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
    if raises and request.received:
        raise KeyboardInterrupt


def check() -> None:
    """Raise KeyboardInterrupt in the main thread if a signal has been deferred."""
    request = _current()
    if request and request.raises and request.received:
        raise KeyboardInterrupt


def _current() -> StopRequest | None:
    if threading.current_thread() is not threading.main_thread():
        return None
    handler = signal.getsignal(signal.SIGINT)
    return handler if isinstance(handler, StopRequest) else None


def end_at_once() -> None:
    """Make Ctrl-C end this process without a traceback, as long as its modules are imported."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where it is ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def never_lost() -> Iterator[None]:
    """Raise KeyboardInterrupt on Ctrl-C or SIGTERM, and do not let it get lost.

    Python ignores exceptions in finalisers and in callbacks of the garbage collector, and an
    interrupted import may end in an ImportError.
    """
    received, ended, hook = False, False, sys.unraisablehook
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        nonlocal received
        received = True
        raise KeyboardInterrupt

    def again(number: int, frame: object) -> None:
        (_current() or interrupt)(signal.SIGINT, frame)

    def note(unraisable: Any) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt) and not ended:
            signal.setitimer(signal.ITIMER_REAL, _SOON)  # when the finaliser has ended
        else:
            hook(unraisable)

    handlers = {signal.SIGINT: interrupt, signal.SIGTERM: interrupt, signal.SIGALRM: again}
    before = {
        number: signal.signal(number, handler)
        for number, handler in handlers.items()
        if signal.getsignal(number) != signal.SIG_IGN  # as Ctrl-C is in a shell's background
    }
    sys.unraisablehook = note
    try:
        yield
    except Exception as error:
        if received:
            raise KeyboardInterrupt from error
        raise
    finally:
        ended = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        if sys.unraisablehook is note:  # else a later hook, which may still be needed, calls it
            sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)
