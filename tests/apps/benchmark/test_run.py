"""Measurements in processes of their own."""

import math
import os
import signal

import pytest

from slowfast.apps.benchmark.run import in_fresh_process, medians


def test_results_and_mistakes_come_back():
    assert in_fresh_process(math.factorial, 5) == 120
    with pytest.raises(ValueError, match="invalid literal"):
        in_fresh_process(int, "x")


def test_memory_that_ran_out_is_none_and_any_other_end_an_error():
    assert in_fresh_process(signal.raise_signal, signal.SIGKILL) is None  # as the kernel ends a process
    with pytest.raises(ChildProcessError, match="exit status 3"):
        in_fresh_process(os._exit, 3)


def test_medians():
    assert medians([{"a": 1.0}, {"a": 5.0}, {"a": 2.0}]) == {"a": 2.0}
    assert medians([{"a": 1.0}, None]) is None
