"""How long work will take still, judged by the pace of its latest pieces."""

import math
from dataclasses import dataclass

_FEWEST = 3  # pieces before anything is said
_WINDOW = 20  # latest pieces that are counted


@dataclass(frozen=True, slots=True)
class _Seen:
    """How many pieces were finished at a moment, and which part of the work that is, if known."""

    now_s: float
    done: int
    share: float | None


class Pace:
    """Watches pieces being finished; several may be worked on side by side.

    Pieces that were finished before it began to watch, as those of an earlier run, say nothing
    about the pace.
    """

    def __init__(self) -> None:
        self._seen: list[_Seen] = []
        self._at_once = 1

    def tell(self, now_s: float, done: int, at_once: int = 1, share: float | None = None) -> None:
        """``done`` pieces, and this ``share`` of the work, are finished by ``now_s``."""
        self._at_once = max(at_once, 1)
        seen = self._seen
        if seen and done < seen[-1].done:  # begun anew
            seen = []
        if not seen or done > seen[-1].done:
            seen = [*seen, _Seen(now_s, done, share)][-1 - max(_WINDOW, 2 * self._at_once) :]
        self._seen = seen  # bound anew: another thread may be reading

    def left_s(self, now_s: float, total: int) -> float | None:
        """Seconds until ``total`` are finished; None as long as too few are to say."""
        if not self._seen:
            return None
        first, last = self._seen[0], self._seen[-1]
        finished = last.done - first.done
        if last.done >= total or finished < max(_FEWEST, self._at_once):
            return None
        took_s, since_s = last.now_s - first.now_s, now_s - last.now_s
        if first.share is not None and last.share is not None and last.share > first.share:
            whole_s = took_s / (last.share - first.share)
            return max((1.0 - last.share) * whole_s - since_s, 0.0)
        # in rounds: two pieces for two workers take as long as one
        round_s = took_s / finished * self._at_once
        rounds = math.ceil((total - last.done) / self._at_once)
        # what has begun may take longer than usual: it is never thought finished before it is
        return max(rounds * round_s - since_s, (rounds - 1) * round_s)


def clock_time(seconds: float) -> str:
    """Write a duration as a clock shows it.

    Example:
        >>> clock_time(9.6), clock_time(80), clock_time(7500)
        ('0:10', '1:20', '2:05:00')
    """
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
