"""How long work will take still, judged by the pace of its latest pieces."""

import math

_FEWEST = 3  # pieces before anything is said
_WINDOW = 20  # latest pieces that are counted


class Pace:
    """Watches pieces being finished; several may be worked on side by side.

    Pieces that were finished before it began to watch, as those of an earlier run, say nothing
    about the pace.
    """

    def __init__(self) -> None:
        self._seen: list[tuple[float, int]] = []  # when, how many were finished then
        self._at_once = 1

    def tell(self, now_s: float, done: int, at_once: int = 1) -> None:
        """``done`` pieces are finished by ``now_s``."""
        self._at_once = max(at_once, 1)
        if self._seen and done < self._seen[-1][1]:  # begun anew
            self._seen = []
        if not self._seen or done > self._seen[-1][1]:
            self._seen = [*self._seen, (now_s, done)][-1 - max(_WINDOW, 2 * self._at_once) :]

    def left_s(self, now_s: float, total: int) -> float | None:
        """Seconds until ``total`` are finished; None as long as too few are to say.

        Pieces that are left are taken to be done in rounds of as many as are worked on at once, so
        two pieces for two workers take as long as one.
        """
        seen = self._seen  # bound anew by tell(), which another thread may call meanwhile
        if not seen:
            return None
        (first_s, before), (last_s, done) = seen[0], seen[-1]
        if done >= total or done - before < max(_FEWEST, self._at_once):
            return None
        round_s = (last_s - first_s) / (done - before) * self._at_once
        rounds = math.ceil((total - done) / self._at_once)
        # what has begun may take longer than usual: it is never thought finished before it is
        return max(rounds * round_s - (now_s - last_s), (rounds - 1) * round_s)


def clock_time(seconds: float) -> str:
    """Write a duration as a clock shows it.

    Example:
        >>> clock_time(9.6), clock_time(80), clock_time(7500)
        ('0:10', '1:20', '2:05:00')
    """
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
