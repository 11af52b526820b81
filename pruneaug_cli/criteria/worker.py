"""What a worker process does first."""

import scipy.linalg  # noqa: F401 (its BLAS must be loaded before it can be limited)
from threadpoolctl import threadpool_limits


def use_one_thread() -> None:
    """Let the BLAS of this process use one thread: the other workers have the other cores."""
    threadpool_limits(limits=1)
