"""Settings with the value `auto`: which candidate is taken, that results are the same, and that answers are kept."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from slowfast.config import load_config
from slowfast.engine import fastest
from slowfast.engine.fastest import settle
from slowfast.engine.train import train
from slowfast.engine.trial import Trial
from slowfast.runtime.seed import rng_state

FORMAT, MIXED, COMPILE = "MODEL.MEMORY_FORMAT", "TRAIN.MIXED_PRECISION", "MODEL.COMPILE"
POSITIONS = "MVIT.REL_POS_BIAS"
CANDIDATES = list(itertools.product(("contiguous", "channels_last"), (False, True)))


@pytest.fixture(autouse=True)
def measured(monkeypatch, tmp_path):
    """Measure models of any size, and keep the answers in a folder of the test."""
    monkeypatch.setattr(fastest, "_LEAST_WORK", 0)
    monkeypatch.setenv("SLOWFAST_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def clock(monkeypatch):
    """`clock(seconds)`: let the n-th candidate take seconds[n] a batch; returns the list of calls."""

    def set_clock(seconds):
        order, calls = {}, []

        def seconds_of(work, count, device):
            calls.append(order.setdefault(work, len(order)))
            return seconds[order[work]]

        monkeypatch.setattr(fastest, "seconds_of", seconds_of)
        return calls

    return set_clock


def auto(tiny_model, *overrides):
    return load_config(None, [*tiny_model, "TRAIN.BATCH_SIZE", 2, FORMAT, "auto", MIXED, "auto", *overrides])


def chosen(cfg):
    return cfg.MODEL.MEMORY_FORMAT, cfg.TRAIN.MIXED_PRECISION


@pytest.mark.parametrize("fast, training", [(0, False), (1, True), (2, True), (3, False), (3, True)])
def test_each_candidate_can_win_and_computes_the_same(tiny_model, clock, fast, training):
    clock([0.1 if number == fast else 0.14 for number in range(4)])
    cfg = settle(auto(tiny_model, "MODEL.DROPOUT_RATE", 0.0), training)
    assert chosen(cfg) == CANDIDATES[fast]
    plain = load_config(None, [*tiny_model, "TRAIN.BATCH_SIZE", 2, FORMAT, "contiguous", "MODEL.DROPOUT_RATE", 0.0])
    tolerance = 0.05 if cfg.TRAIN.MIXED_PRECISION else 1e-5
    torch.testing.assert_close(Trial(cfg, training)().float(), Trial(plain, training)(), rtol=tolerance, atol=tolerance)


MIXED_WAYS = ((False, False), (True, False), (True, True))  # mixed precision, and depthwise convolutions apart from it


@pytest.mark.parametrize("fast", [1, 2, 4, 5])
def test_depthwise_convolutions_are_measured_in_float32_too(tiny_models, clock, fast):
    clock([0.1 if number == fast else 0.14 for number in range(6)])
    still = ["MODEL.DROPOUT_RATE", 0.0, "MODEL.DROPCONNECT_RATE", 0.0]
    cfg = settle(auto(tiny_models["X3D"], *still), True)
    ways = [(layout, *way) for layout in ("contiguous", "channels_last") for way in MIXED_WAYS]
    assert (*chosen(cfg), cfg.TRAIN.DEPTHWISE_FP32) == ways[fast]
    plain = load_config(None, [*tiny_models["X3D"], "TRAIN.BATCH_SIZE", 2, FORMAT, "contiguous", MIXED, False, *still])
    tolerance = 0.05 if cfg.TRAIN.MIXED_PRECISION else 1e-5
    torch.testing.assert_close(Trial(cfg, True)().float(), Trial(plain, True)(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("fast", [0, 1])
def test_compiled_or_not_can_win_and_computes_the_same(tiny_model, clock, fast, fast_compiler):
    clock([0.1 if number == fast else 0.14 for number in range(2)])
    plain = [*tiny_model, "TRAIN.BATCH_SIZE", 2, FORMAT, "contiguous", MIXED, False, "MODEL.DROPOUT_RATE", 0.0]
    cfg = settle(load_config(None, [*plain, COMPILE, "auto"]), True)
    assert cfg.MODEL.COMPILE is bool(fast)
    torch.testing.assert_close(Trial(cfg, True)(), Trial(load_config(None, plain), True)(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mixed, name, candidates", [(True, "X3D", 4), (False, "X3D", 2), (True, "ResNet", 2)])
def test_without_a_choice_of_precision(tiny_models, clock, mixed, name, candidates):
    calls = clock([0.1] * candidates)
    settings = [*tiny_models[name], "TRAIN.BATCH_SIZE", 2, FORMAT, "auto", MIXED, mixed]
    cfg = settle(load_config(None, settings), True)
    assert set(calls) == set(range(candidates))
    assert cfg.TRAIN.DEPTHWISE_FP32 == (False if candidates == 4 else "auto")


def test_noise_does_not_beat_the_plain_setting(tiny_model, clock):
    clock([0.100, 0.098, 0.120, 0.099])
    assert chosen(settle(auto(tiny_model), True)) == ("contiguous", False)


def test_a_slow_candidate_leaves_the_race(tiny_model, clock):
    calls = clock([1.0, 5.0, 0.9, 1.7])
    assert chosen(settle(auto(tiny_model), True)) == ("channels_last", False)
    assert calls == [0, 1, 2, 3, 0, 2, 3, 0, 2, 0, 2]  # the first batch, then three rounds


def test_the_race_ends_in_time(tiny_model, clock, monkeypatch):
    monkeypatch.setattr(fastest, "_SECONDS", 0.0)
    calls = clock([1.0, 0.9])
    assert settle(load_config(None, [*tiny_model, FORMAT, "auto"]), True).MODEL.MEMORY_FORMAT == "channels_last"
    assert calls == [0, 1]


@pytest.mark.parametrize("kind, keys, rounds", [("cpu", [FORMAT], 0), ("cuda", [FORMAT], 1), ("cpu", [COMPILE], 1)])
def test_first_batches_that_also_set_up_are_not_compared(tiny_model, clock, monkeypatch, kind, keys, rounds):
    monkeypatch.setattr(fastest, "_SECONDS", 0.0)
    clock([0.2, 0.3])
    race = fastest._Race(auto(tiny_model), keys, True, 1)
    works, first = {("a",): object(), ("b",): object()}, {("a",): 9.0, ("b",): 8.0}
    race._take_turns(works, first, torch.device(kind))
    assert race.seconds == ({("a",): 0.2, ("b",): 0.3} if rounds else first)


def test_clips_of_large_models_are_measured_one_by_one(tiny_model):
    cfg = load_config(None, [*tiny_model, "TRAIN.BATCH_SIZE", 8])
    assert [fastest._clips(cfg, work) for work in (1e9, 1e11)] == [2, 1]


def test_on_gpus_the_batch_is_that_of_a_process_of_this_host(tiny_model, monkeypatch):
    """Of 8 clips a host, on two hosts of four GPUs."""
    cfg = load_config(None, [*tiny_model, "TRAIN.BATCH_SIZE", 8])
    monkeypatch.setattr(fastest, "device_of", lambda cfg: torch.device("cuda"))
    monkeypatch.setattr(fastest, "get_local_world_size", lambda: 4)
    monkeypatch.setattr(fastest, "get_world_size", lambda: 8)
    assert fastest._clips(cfg, 1e9) == 2


@pytest.mark.parametrize("name", ["MViT", "ResNet"])
@pytest.mark.parametrize("relative, kind", [(True, "cuda"), (True, "cpu"), (False, "cuda")])
def test_how_attention_gets_relative_positions_is_measured_on_gpus(tiny_models, monkeypatch, name, relative, kind):
    cfg = load_config(None, [*tiny_models[name], "MVIT.REL_POS_SPATIAL", relative, "MVIT.REL_POS_TEMPORAL", relative])
    monkeypatch.setattr(fastest, "device_of", lambda cfg: torch.device(kind))
    assert fastest._matters(cfg, POSITIONS) == (name == "MViT" and relative and kind == "cuda")


@pytest.mark.parametrize("fast, training", [(0, True), (1, True), (1, False)])
def test_either_way_of_relative_positions_can_win(tiny_models, clock, monkeypatch, fast, training):
    clock([0.1 if number == fast else 0.14 for number in range(2)])
    monkeypatch.setattr(fastest, "_matters", lambda cfg, key: key == POSITIONS)
    relative = ["MVIT.REL_POS_SPATIAL", True, "MVIT.REL_POS_TEMPORAL", True, "MVIT.DROPPATH_RATE", 0.0]
    cfg = settle(load_config(None, [*tiny_models["MViT"], *relative]), training)
    assert cfg.MVIT.REL_POS_BIAS == ("channels", "mask")[fast]
    plain = load_config(None, [*tiny_models["MViT"], *relative])
    torch.testing.assert_close(Trial(cfg, training)(), Trial(plain, training)())


def test_training_that_fills_queues_first_is_not_measured(tiny_model, repo, clock):
    calls = clock([])
    small = ["NUM_GPUS", 0, "RESNET.DEPTH", 18, "RESNET.WIDTH_PER_GROUP", 8, "DATA.TRAIN_CROP_SIZE", 32]
    cfg = load_config(repo / "configs/contrastive_ssl/MoCo_SlowR50_8x8.yaml", [*small, "TRAIN.BATCH_SIZE", 2])
    assert settle(cfg, True) is cfg and calls == []


def test_other_results_are_not_taken(tiny_model, clock, monkeypatch, caplog):
    clock([1.0, 0.5])

    class Wrong(Trial):
        def __init__(self, cfg, *args, **kwargs):
            super().__init__(cfg, *args, **kwargs)
            self.factor = 1 + (cfg.MODEL.MEMORY_FORMAT != "contiguous")

        def result(self):
            return super().result() * self.factor

    monkeypatch.setattr(fastest, "Trial", Wrong)
    cfg = settle(load_config(None, [*tiny_model, FORMAT, "auto"]), True)
    assert cfg.MODEL.MEMORY_FORMAT == "contiguous" and "channels_last" in caplog.text


def test_results_that_are_no_numbers_are_not_taken(tiny_model):
    cfg = load_config(None, [*tiny_model, MIXED, False])
    race = fastest._Race(cfg, [FORMAT], True, 1)
    assert race._agrees((), cfg, torch.ones(2))
    assert not race._agrees((), cfg, torch.tensor([1.0, float("nan")]))


def test_where_full_precision_fails_results_agree_as_far_as_mixed_precision_is_exact(tiny_model):
    full, mixed = (load_config(None, [*tiny_model, MIXED, on]) for on in (False, True))
    race = fastest._Race(full, [FORMAT, MIXED], True, 1)
    assert race._agrees((), mixed, torch.ones(2))
    assert race._agrees((), full, torch.full((2,), 1.05)) and not race._agrees((), full, torch.full((2,), 1.5))


def test_where_nothing_runs_nothing_is_kept(tiny_model, clock, monkeypatch, tmp_path, caplog):
    caplog.set_level("INFO")

    def fail(*args, **kwargs):
        raise torch.OutOfMemoryError("for a moment")

    monkeypatch.setattr(fastest, "Trial", fail)
    assert chosen(settle(auto(tiny_model), True)) == ("channels_last", False)
    assert "not kept" in caplog.text and not [*(tmp_path / "cache").rglob("*.json")]


def test_an_answer_is_of_one_processor_and_of_one_way_of_norms(tiny_model, monkeypatch):
    def path(*settings):
        return fastest._answer_path(auto(tiny_model, *settings), [FORMAT], False)

    first = path()
    assert first == path("OUTPUT_DIR", "elsewhere") != path("TEST.FOLD_NORMS", False)
    monkeypatch.setattr(fastest, "processor", lambda: ("another", ("avx512_bf16",)))
    assert path() != first


@pytest.mark.parametrize("kind, apart, agrees", [("cpu", 0.01, False), ("cuda", 0.01, True), ("cuda", 0.03, False)])
def test_on_gpus_results_agree_as_far_as_tf32_is_exact(tiny_model, monkeypatch, kind, apart, agrees):
    cfg = load_config(None, [*tiny_model, MIXED, False])
    monkeypatch.setattr(fastest, "device_of", lambda cfg: torch.device(kind))
    race = fastest._Race(cfg, [FORMAT], True, 1)
    assert race._agrees((), cfg, torch.ones(2))
    assert race._agrees((), cfg, torch.ones(2) + apart) is agrees


@pytest.mark.parametrize("training", [True, False])
def test_the_result_of_a_trial_is_that_of_a_prediction_and_leaves_the_model_as_it_was(tiny_model, training):
    cfg = load_config(None, [*tiny_model, FORMAT, "contiguous", MIXED, False])
    asked = Trial(cfg, training)
    result = asked.result()
    torch.testing.assert_close(result, Trial(cfg, False)())
    assert not result.requires_grad
    torch.testing.assert_close(asked(), Trial(cfg, training)())


def test_the_peak_of_a_gpu_is_that_of_the_run_and_not_of_the_race(tiny_model, clock, monkeypatch):
    released = []
    monkeypatch.setattr(fastest, "release_memory", released.append)
    clock([1.0] * 4)
    settle(auto(tiny_model), True)
    assert released == [torch.device("cpu")]


def test_a_candidate_that_fails_is_left_out(tiny_model, clock, monkeypatch, caplog):
    clock([1.0, 0.5, 0.2])
    make = fastest.Trial

    def make_or_fail(cfg, training, count):
        if cfg.TRAIN.MIXED_PRECISION:
            raise torch.OutOfMemoryError("no room for 3 GiB")
        return make(cfg, training, count=count)

    monkeypatch.setattr(fastest, "Trial", make_or_fail)
    assert chosen(settle(auto(tiny_model), True)) == ("channels_last", False)
    assert "no room for 3 GiB" in caplog.text


def test_the_answer_is_kept(tiny_model, clock, tmp_path):
    clock([1.0, 1.4, 0.7, 1.4])
    first = settle(auto(tiny_model), True)
    clock([1.0, 0.1, 1.0, 1.0])
    assert settle(auto(tiny_model, "SOLVER.BASE_LR", 0.5, "OUTPUT_DIR", "elsewhere"), True).MODEL == first.MODEL
    assert chosen(settle(auto(tiny_model), False)) == ("contiguous", True)  # prediction is measured apart
    clock([0.1, 1.0, 1.0, 1.0])
    assert chosen(settle(auto(tiny_model, "DATA.NUM_FRAMES", 12), True)) == ("contiguous", False)  # so is another model
    (kept, *_) = sorted((tmp_path / "cache" / "fastest").glob("*.json"), key=lambda path: path.stat().st_mtime)
    assert json.loads(kept.read_text())["choice"] == {FORMAT: "channels_last", MIXED: False}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"choice": {"MODEL.MEMORY_FORMAT": "sideways"}}'])
def test_a_damaged_answer_is_measured_again(tiny_model, clock, tmp_path, content):
    clock([1.0, 0.7] * 2)
    cfg = load_config(None, [*tiny_model, FORMAT, "auto"])
    settle(cfg, True)
    (path,) = (tmp_path / "cache" / "fastest").glob("*.json")
    path.write_text(content)
    assert settle(cfg, True).MODEL.MEMORY_FORMAT == "channels_last"
    assert json.loads(path.read_text())["choice"] == {FORMAT: "channels_last"}


def test_an_answer_that_cannot_be_kept_is_not_used(tiny_model, clock, tmp_path, caplog):
    """Otherwise a resumed run could compute other numbers than it began with."""
    (tmp_path / "cache").write_text("a file where the folder should be")
    caplog.set_level("INFO")
    clock([1.0, 1.4, 1.4, 0.1])
    assert chosen(settle(auto(tiny_model), True)) == ("channels_last", False)
    assert "not kept" in caplog.text


def test_the_first_of_two_answers_counts(tiny_model, clock, monkeypatch):
    """Another run measures at the same time, and is done first."""
    clock([1.0, 0.5])
    cfg = load_config(None, [*tiny_model, FORMAT, "auto"])
    race = fastest._Race.run

    def beaten(self):
        seconds = race(self)
        fastest._keep(fastest._answer_path(cfg, [FORMAT], True), [FORMAT], {FORMAT: "contiguous"}, {})
        return seconds

    monkeypatch.setattr(fastest._Race, "run", beaten)
    assert settle(cfg, True).MODEL.MEMORY_FORMAT == "contiguous"


def test_nothing_else_changes(tiny_model, monkeypatch):
    cfg = load_config(None, [*tiny_model, FORMAT, "contiguous", MIXED, True])
    assert settle(cfg, True) is cfg
    before = str(rng_state())
    settle(load_config(None, [*tiny_model, FORMAT, "auto", "MODEL.DROPOUT_RATE", 0.5]), True)
    assert str(rng_state()) == before
    monkeypatch.setattr(fastest, "_LEAST_WORK", 1e12)
    small = auto(tiny_model)
    assert settle(small, True) is small


def test_a_training_takes_the_fastest(tiny_cfg, clock, caplog):
    clock([1.0, 1.4, 0.7, 1.4])
    caplog.set_level("INFO")
    cfg = tiny_cfg(FORMAT, "auto", MIXED, "auto", "SOLVER.MAX_EPOCH", 1)
    train(cfg)
    assert "MODEL.MEMORY_FORMAT channels_last TRAIN.MIXED_PRECISION False" in caplog.text
    assert load_config(Path(cfg.OUTPUT_DIR) / "config.yaml").MODEL.MEMORY_FORMAT == "channels_last"


PAIR = """
import sys
from pathlib import Path
from slowfast.config import load_config
from slowfast.engine import fastest
from slowfast.runtime.distributed import get_rank
from slowfast.runtime.launch import launch

def pair(cfg):
    fastest._LEAST_WORK = 0
    # Each process finds another candidate the fastest; the slower of the two clocks counts.
    order = {}
    times = [[1.0, 0.6, 0.8], [1.0, 0.9, 0.7]][get_rank()]
    fastest.seconds_of = lambda work, count, device: times[order.setdefault(work, len(order))]
    # A file for each: lines that two processes print at once may mix.
    Path(f"rank_{get_rank()}").write_text(fastest.settle(cfg, True).MODEL.MEMORY_FORMAT)

if __name__ == "__main__":
    launch(pair, load_config(None, sys.argv[1:]), num_procs=2)
"""


def test_processes_agree(tiny_model, tmp_path):
    script = tmp_path / "pair.py"
    script.write_text(PAIR)
    overrides = [*tiny_model, "TRAIN.BATCH_SIZE", 2, "OUTPUT_DIR", tmp_path / "out"]
    command = [sys.executable, str(script), *map(str, overrides)]
    subprocess.run(command, check=True, cwd=tmp_path, timeout=300)
    assert [(tmp_path / f"rank_{rank}").read_text() for rank in range(2)] == ["channels_last"] * 2
