"""What a worker process does first."""

import scipy.linalg  # noqa: F401 (its BLAS must be loaded before it can be limited)
from threadpoolctl import threadpool_limits


def begin_work() -> None:
    """Let BLAS use one thread: other workers have the other cores."""
    threadpool_limits(limits=1)
