"""Test the choice of the failure that caused the others."""

import json
import os
import signal
import sys

import pytest
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from slowfast.runtime.elastic import _environment, first_cause

START = 1_700_000_000


@pytest.fixture
def failure(tmp_path):
    """`failure(seconds, raised=..., exitcode=...)`: build one as the agent notes it, with the file of its process."""

    def note(seconds, raised="", exitcode=1):
        path = tmp_path / f"error_{len(list(tmp_path.iterdir()))}.json"
        if raised:
            extra = {"py_callstack": "", "timestamp": str(START + seconds)}
            path.write_text(json.dumps({"message": {"message": raised, "extraInfo": extra}}))
        noted = ProcessFailure(local_rank=0, pid=77, exitcode=exitcode, error_file=str(path))
        noted.timestamp = START + seconds
        return noted

    return note


LOST = "LostContactError: process 0 of 3 lost contact with another"


def test_a_mistake_comes_before_lost_contact_of_the_same_moment(failure):
    cause = first_cause({0: failure(0, LOST), 1: failure(1, "ValueError: bad label", exitcode=2), 2: failure(0, LOST)})
    assert str(cause) == "process 1 failed: ValueError: bad label"
    assert cause.exitcode == 2


def test_a_killed_process_comes_before_those_told_to_end(failure):
    ended = {0: failure(0, exitcode=-signal.SIGTERM), 2: failure(0, exitcode=128 + signal.SIGTERM)}
    cause = first_cause({**ended, 1: failure(1, exitcode=-signal.SIGKILL)})
    assert str(cause) == "process 1 (pid 77) was killed by SIGKILL; out of memory is the usual reason"
    assert first_cause({1: failure(0, exitcode=-signal.SIGSEGV)}).exitcode == -signal.SIGSEGV


def test_the_earliest_of_equal_kinds(failure):
    failures = {
        0: failure(40, "ValueError: later"),
        1: failure(1, "ValueError: second"),
        2: failure(0, "OSError: full"),
    }
    assert str(first_cause(failures)) == "process 2 failed: OSError: full"


def test_a_process_that_had_to_be_killed_was_the_one_that_hung(failure):
    silence = "LostContactError: process 0 of 3 had no answer"
    cause = first_cause({0: failure(0, silence), 2: failure(1, silence), 1: failure(31, exitcode=-signal.SIGKILL)})
    assert str(cause).startswith("process 1 hung")
    assert str(cause).endswith(f"process 0 failed: {silence}")


def test_an_abort_is_a_crash_or_the_watchdog_that_saw_another_hang(failure):
    crashed = first_cause({0: failure(0, LOST), 1: failure(1, exitcode=-signal.SIGABRT)})
    assert str(crashed).startswith("process 1 (pid 77) was killed by SIGABRT")
    watched = first_cause({0: failure(0, exitcode=-signal.SIGABRT), 1: failure(31, exitcode=-signal.SIGKILL)})
    assert str(watched).startswith("process 1 hung")


def test_a_process_without_a_word(failure):
    assert (
        str(first_cause({3: failure(0, exitcode=5)}))
        == "process 3 (pid 77) ended with exit status 5; its message is above"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="other systems name the interface otherwise")
def test_processes_of_one_host_meet_without_a_look_up_of_its_name(monkeypatch):
    """Gloo would look it up, and where the name server is silent each look-up takes seconds; users may set another."""
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    with _environment(2, ""):
        assert os.environ["GLOO_SOCKET_IFNAME"] == "lo"
    with _environment(2, "host0:29500"):
        assert "GLOO_SOCKET_IFNAME" not in os.environ
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth7")
    with _environment(2, ""):
        assert os.environ["GLOO_SOCKET_IFNAME"] == "eth7"
    assert os.environ["GLOO_SOCKET_IFNAME"] == "eth7"
