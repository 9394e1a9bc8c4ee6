"""A wish to stop, by signal or by the clock, that is granted after a whole step."""

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any


class StopRequest:
    """Notes SIGINT and SIGTERM inside a `with` block instead of raising at once, and watches the clock.

    A step is either done or not: what is saved afterwards is the state between two steps. A second signal is
    not waited for: it raises where the program stands.

    Args:
        max_minutes: ask to stop after so many minutes; None for no limit.
    """

    def __init__(self, max_minutes: float | None = None) -> None:
        self.signal: int | None = None
        self._deadline = None if max_minutes is None else time.monotonic() + 60 * max_minutes
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():  # others cannot have handlers
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()

    @property
    def wanted(self) -> bool:
        """Whether to stop after this step."""
        late = self._deadline is not None and time.monotonic() >= self._deadline
        return self.signal is not None or late

    def leave(self) -> None:
        """Do what the signal asks for.

        Raises:
            KeyboardInterrupt: it was Ctrl-C.
            SystemExit: it was SIGTERM; with its exit code, 143.
        """
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal is not None:
            raise SystemExit(128 + self.signal)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        self._give_back()

    def _give_back(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()
