"""What the child processes of pruneaug have in common: none outlives its parent."""

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """End this process, whatever it does, when the one that started it is gone.

    A parent that is killed cannot tell its children. Those of a pool wait for work on a pipe whose
    other end each of them holds too: without this they would wait for ever.
    """
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
