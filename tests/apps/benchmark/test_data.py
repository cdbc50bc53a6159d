"""Measuring how clips are loaded."""

import mmap
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from slowfast.apps.benchmark.bare_decoding import bare_ms, decode_barely, recorded_requests
from slowfast.apps.benchmark.data import STAGES, StageClock, measure_data, resident_mib, soak
from slowfast.apps.benchmark.report import format_data, format_soak
from slowfast.datasets import DATASET_REGISTRY, ClipDataset, Sample
from slowfast.datasets.transforms import pixels as transforms
from slowfast.datasets.video.pyav import PyAVReader


@pytest.fixture
def load(tiny_cfg):
    return lambda overrides: tiny_cfg("TEST.BATCH_SIZE", 2, *overrides)


def test_a_stage_within_another_counts_for_itself(monkeypatch):
    clock, now = StageClock(), [7]  # a time that the test moves: on a busy machine sleeps are longer than asked for
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    with clock.stage("other"):
        now[0] += 2
        for _ in range(2):
            with clock.stage("decode"):
                now[0] += 20
                with clock.stage("seek"):
                    now[0] += 300
    assert clock.seconds == {"other": 2, "decode": 40, "seek": 600}


@pytest.mark.parametrize("split, views", [("train", 1), ("test", 2)])
def test_stages_make_up_the_time(split, views, load, monkeypatch):
    """By the processor's own time, for others may be at work between two stages."""
    monkeypatch.setattr(time, "perf_counter", time.process_time)
    before = PyAVReader.frames, transforms.to_clip
    measured = measure_data(load, [split], [], clips=6, rounds=3)[split]["stages"]
    assert (PyAVReader.frames, transforms.to_clip) == before
    assert measured["views"] == views
    assert measured["clips"] >= 6
    for figures in (measured["first"], measured["median"]):
        assert list(figures["ms"]) == list(STAGES)
        # Medians of stages are those of different rounds.
        assert sum(figures["ms"].values()) == pytest.approx(1000 / figures["clips_per_second"], rel=0.5)
    spent = measured["first"]["ms"]
    assert min(spent[stage] for stage in ("open", "seek", "decode", "normalize", "collate", "other")) > 0
    assert sum(spent.values()) == pytest.approx(1000 / measured["first"]["clips_per_second"], rel=0.1)


def test_the_bare_loop_reads_the_frames_that_the_reader_reads(tiny_data):
    path = next(line.rsplit(" ", 1)[0] for line in (tiny_data / "train.csv").read_text().splitlines())
    for wanted in ([0], [3, 4, 7], [1, 5, 6, 9]):
        with recorded_requests() as requests, PyAVReader(path) as reader:
            truth = reader.frames(wanted)
        (request,) = requests
        assert request.wanted == tuple(wanted)
        assert np.array_equal(np.stack(list(decode_barely(request))), truth)
    assert bare_ms([request]) > 0


def test_what_takes_long_is_found(load, monkeypatch):
    original = transforms.to_clip

    def slow(*args):
        time.sleep(0.05)
        return original(*args)

    monkeypatch.setattr(transforms, "to_clip", slow)
    spent = measure_data(load, ["train"], [], clips=4, rounds=1)["train"]["stages"]["first"]["ms"]
    assert spent["normalize"] > 50
    assert spent["normalize"] > 2 * spent["collate"]


def test_tables(load):
    measured = measure_data(load, ["train", "test"], [0, 2], clips=4, rounds=2)
    assert all(rate > 0 for split in measured.values() for rate in split["workers"].values())
    train, test = (format_data(split, measured[split]).splitlines() for split in ("train", "test"))
    assert train[1].split()[:4] == ["ms", "a", "clip", "open"]
    assert [line.split()[0] for line in train[-2:]] == ["0", "2"]
    assert test[1].endswith("s / video")


def test_a_set_without_a_readable_video(load, tmp_path):
    (tmp_path / "test.csv").write_text(f"{tmp_path / 'none.mp4'} 0\n")
    data = ["DATA.PATH_TO_DATA_DIR", str(tmp_path), "DATA.MAX_UNREADABLE_FRACTION", 1.0]
    with pytest.raises(ValueError, match="no clip can be made; first cause: .*none.mp4.*no such file"):
        measure_data(lambda overrides: load([*data, *overrides]), ["test"], [], clips=2, rounds=1)


def fresh_memory(size):
    """So many bytes in use, straight from the system: a process that has run for long has room left over otherwise."""
    block = mmap.mmap(-1, size)
    block.write(b"\1" * size)
    return block


class Leaky(ClipDataset):
    """Keeps 0.4 MiB a sample, or nothing."""

    leak = 100_000

    def __init__(self, cfg, split):
        super().__init__(cfg, split, [str(number) for number in range(40)])
        self.kept = []

    def training_sample(self, video, generator, shape):
        self.kept.append(fresh_memory(4 * self.leak))
        return Sample([torch.zeros(3)], 0, video, 0)

    def evaluation_sample(self, video, view):
        raise NotImplementedError


class Tight(Leaky):
    leak = 1


DATASET_REGISTRY.register("leaky")(Leaky)
DATASET_REGISTRY.register("tight")(Tight)


@pytest.mark.parametrize("name, flat", [("leaky", False), ("tight", True)])
def test_soak_sees_a_worker_that_grows(name, flat, load):
    result = soak(lambda overrides: load(["TRAIN.DATASET", name, *overrides]), 200)
    assert result["clips"] == 200
    assert 30 <= len(result["points"]) <= 41
    assert result["flat"] is flat
    if not flat:
        assert result["growth_mib"] == pytest.approx(0.38 * 100, rel=0.2)  # half of the soak lies between the quarters
    assert format_soak(result).splitlines()[-1].startswith("flat" if flat else "NOT flat")


GROWING = """
import sys
print(flush=True)
sys.stdin.readline()
block = b"x" * (20 * 2**20)
print(flush=True)
sys.stdin.readline()
"""


def test_memory_of_a_process():
    """In a process of its own, since threads of this one may free or take memory meanwhile."""
    with subprocess.Popen([sys.executable, "-c", GROWING], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        before = resident_mib(process.pid)
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.readline()
        assert resident_mib(process.pid) - before == pytest.approx(20, abs=1)
        process.stdin.close()
