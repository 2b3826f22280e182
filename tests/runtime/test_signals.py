"""Signals as requests."""

import os
import signal

import pytest

from ccnet.runtime.signals import StopSignals, handlers_restored, raising_interrupts


def test_the_first_ctrl_c_is_a_request_and_the_second_stops():
    before = signal.getsignal(signal.SIGINT)
    with StopSignals() as stop:
        assert not stop.requested
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_sigterm_does_not_break_off_what_the_first_asked_to_end():
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals() as stop:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
    assert signal.getsignal(signal.SIGTERM) is before


def test_handlers_that_a_library_installs_are_taken_back():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)}
    with handlers_restored():
        for number in before:
            signal.signal(number, lambda *_: None)
    assert {number: signal.getsignal(number) for number in before} == before


def test_sigterm_interrupts_once_so_that_what_was_begun_is_cleaned_up():
    before = signal.getsignal(signal.SIGTERM)
    with raising_interrupts(is_launched=False) as interrupts:
        assert not interrupts.came
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # during the clean-up
        assert interrupts.came
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_a_process_was_told_to_ignore_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with raising_interrupts(is_launched=False):
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_launched_process_is_ended_by_sigterm_at_once():
    with raising_interrupts(is_launched=True):
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
