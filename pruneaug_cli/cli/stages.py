"""What has been reported of each stage of the work, and how long it goes on."""

from dataclasses import dataclass, field

from pruneaug_cli.cli.eta import Pace, clock_time
from pruneaug_cli.progress import Found, Standing, Step
from pruneaug_cli.report.units import ratio, show


@dataclass(slots=True)
class Stage:
    """One stage: its latest step, when it began, and when it ended (None: not yet)."""

    step: Step
    begun_s: float
    told_s: float
    ended_s: float | None = None
    flights_s: dict[int, float] = field(default_factory=dict)  # when a trial was first seen
    _pace: Pace = field(default_factory=Pace)

    def tell(self, step: Step, now_s: float) -> None:
        """Take the next step in."""
        self.step, self.told_s, self.ended_s = step, now_s, None
        self._pace.tell(now_s, step.done, step.at_once, step.share)
        flights = () if step.standing is None else step.standing.flights
        self.flights_s = {f.trial: self.flights_s.get(f.trial, now_s) for f in flights}

    @property
    def is_complete(self) -> bool:
        """Whether all its pieces are finished."""
        return 0 < self.step.total <= self.step.done

    @property
    def is_over(self) -> bool:
        """Whether nothing more is expected of it: it is complete, or another has begun."""
        return self.is_complete or self.ended_s is not None

    def elapsed_s(self, now_s: float) -> float:
        """How long it has taken."""
        if self.is_complete:
            return self.told_s - self.begun_s
        return (now_s if self.ended_s is None else self.ended_s) - self.begun_s

    def count(self) -> str:
        """``11/30``, or ``11`` where nobody knows of how many."""
        return f"{self.step.done}/{self.step.total}" if self.step.total else str(self.step.done)

    def left(self, now_s: float) -> str:
        """``1:20 left``; empty where nothing can be said."""
        if self.is_over:
            return ""
        left_s, limit_s = self._pace.left_s(now_s, self.step.total), self.step.ends_in_s
        if limit_s is not None:
            limit_s -= now_s - self.told_s
            if limit_s <= 0.0:
                return "time is up"
            if left_s is None:
                return f"at most {clock_time(limit_s)} left"
            left_s = min(left_s, limit_s)
        return "" if left_s is None else f"{clock_time(left_s)} left"

    def news(self) -> str:
        """The latest news in a few words."""
        standing = self.step.standing
        if standing is None:
            return self.step.note
        if standing.best is None:
            return "nothing meets the goal yet" if standing.front else ""
        speed = in_words(standing, standing.best)
        return f"best {speed}, drop {show('metric', standing.best.drop)}"


def in_words(standing: Standing, found: Found) -> str:
    """``1.210 ms, 3.13×``."""
    speedup = ratio(standing.baseline_s, found.latency_s)
    times = "" if speedup is None else f", {show('times', speedup)}"
    return f"{show('ms', found.latency_s)} ms{times}"


def goal_in_words(standing: Standing) -> str:
    """What the search looks for."""
    drop, target_s = standing.max_drop, standing.target_latency_s
    parts = [
        "" if target_s is None else f"at most {show('ms', target_s)} ms",
        "" if drop is None else f"a drop of at most {show('metric', drop)}",
    ]
    wanted = "the fastest plan" if target_s is None else "the most accurate plan"
    return f"{wanted} with {' and '.join(part for part in parts if part)}"
