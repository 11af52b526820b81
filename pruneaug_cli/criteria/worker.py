"""What a worker process does first."""

import scipy.linalg  # noqa: F401 (its BLAS must be loaded before it can be limited)
from threadpoolctl import threadpool_limits

from pruneaug_cli.children import end_with_parent


def begin_work() -> None:
    """End with the parent, and let BLAS use one thread: other workers have the other cores."""
    end_with_parent()
    threadpool_limits(limits=1)
