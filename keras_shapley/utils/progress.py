"""A progress bar for work that takes more than a few seconds."""

import time

import keras

# seconds of work after which the bar appears, and between two updates: a log file gets a line for each of them
_DELAY = 2.0
_INTERVAL = 1.0


class Progress:
    """Keras's progress bar, shown once the work has taken two seconds. One that would begin at its end is not shown.

    Args:
        total: number of steps, None if it is not known.
        unit: name of a step.
        show: whether there may be a bar.
    """

    def __init__(self, total: int | None, unit: str, show: bool) -> None:
        self._bar = keras.utils.Progbar(total, unit_name=unit, interval=_INTERVAL) if show else None
        self._total = total
        self._done = 0
        self._is_shown = False
        self._start = time.monotonic()

    def add(self, n: int = 1) -> None:
        """Reports `n` further steps."""
        self.update(self._done + n)

    def update(self, done: int) -> None:
        """Reports that `done` steps are done."""
        self._done = done
        if self._bar is None or time.monotonic() - self._start < _DELAY:
            return
        self._is_shown = self._is_shown or done != self._total
        if self._is_shown:
            self._bar.update(done, finalize=done == self._total)
