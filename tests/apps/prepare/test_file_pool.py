"""Work shared by processes of which some crash, hang or fail."""

import os
import time

import pytest

from slowfast.apps.prepare.file_pool import Lost, work_on


def behave(task):
    """Do what the task says."""
    how, number = task
    if how == "abort":
        os.abort()
    if how == "hang":
        time.sleep(60)
    if how == "raise":
        raise OSError(f"no space for {number}")
    return number * number


@pytest.mark.slow
def test_a_crash_or_a_hang_costs_one_task():
    tasks = [("square", n) for n in range(5)] + [("abort", 5), ("hang", 6)] + [("square", n) for n in range(7, 10)]
    results = dict(work_on(behave, tasks, 2, "test", timeout_s=2.0))
    assert results.pop(("abort", 5)) == Lost("the process that read it died (SIGABRT)")
    assert results.pop(("hang", 6)) == Lost("not done after 2 s")
    assert results == {("square", n): n * n for n in [*range(5), 7, 8, 9]}


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_ends_the_work(workers):
    with pytest.raises(OSError, match="no space for 1"):
        list(work_on(behave, [("square", 0), ("raise", 1), ("square", 2)], workers, "test"))


@pytest.mark.parametrize("workers", [0, 3])
def test_no_tasks(workers):
    assert list(work_on(behave, [], workers, "test")) == []
