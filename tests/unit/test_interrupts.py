"""Ctrl-C: between two dealings with the database."""

import os
import signal
import threading

import pytest

from pruneaug_cli.interrupts import interrupts_deferred, uninterrupted


@pytest.fixture(autouse=True)
def listening():
    """What a shell starts in the background ignores Ctrl-C: the tests among it do not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_takes_effect_at_the_end():
    done = []

    @uninterrupted
    def work():
        interrupt()
        done.append("all of it")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["all of it"]
    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_an_interrupt_of_an_inner_piece_waits_for_the_outer_one():
    done = []

    @uninterrupted
    def outer():
        uninterrupted(interrupt)()
        done.append("the rest")

    with pytest.raises(KeyboardInterrupt):
        outer()
    assert done == ["the rest"]


def test_without_an_interrupt_results_and_errors_pass():
    @uninterrupted
    def half(number):
        return 1 / number

    assert half(2) == 0.5
    with pytest.raises(ZeroDivisionError):
        half(0)


def test_outside_of_the_main_thread_nothing_changes():
    seen = []

    def work():
        with interrupts_deferred():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
