import re
import sys
from types import SimpleNamespace

import pytest
import torch

from slowfast.checkpoint.io import find_checkpoints
from slowfast.engine.hooks import Hook, ProgressBar, Recorder
from slowfast.engine.optim_step import NonFiniteError
from slowfast.engine.state import Averages
from slowfast.engine.task import TASK_REGISTRY, ClipTask, build_task
from slowfast.engine.train import train


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_bar_is_for_terminals(monkeypatch, capsys, terminal):
    state = SimpleNamespace(epoch=1, max_epoch=3, epoch_length=4, iteration=2)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    bar = ProgressBar()
    bar.before_epoch(state)
    bar.after_step(state, None, {})
    bar.bar.refresh()
    bar.after_epoch(state)
    shown = capsys.readouterr().out
    assert ("epoch 2/3" in shown and "3/4" in shown) == terminal
    assert bool(shown) == terminal


def test_averages_weigh_by_samples_and_go_on_from_a_saved_state():
    averages = Averages()
    averages.add({"loss": torch.tensor(1.0), "top1_err": torch.tensor(100.0)}, samples=1)
    restored = Averages()
    restored.load_state_dict(averages.state_dict(), torch.device("cpu"))
    for part in (averages, restored):
        part.add({"loss": torch.tensor(4.0), "top1_err": torch.tensor(0.0)}, samples=3)
        assert part.read() == {"loss": 3.25, "top1_err": 25.0}
    assert Averages().read() == {}


def test_restored_averages_are_summed_over_processes_on_the_device(monkeypatch):
    """NCCL sums tensors of GPUs alone."""
    summed, averages = [], Averages()
    monkeypatch.setattr("slowfast.engine.state.is_distributed", lambda: True)
    monkeypatch.setattr("torch.distributed.all_reduce", summed.append)
    averages.load_state_dict({"sums": {"loss": 1.0}, "samples": 2}, torch.device("meta"))
    with pytest.raises(NotImplementedError):  # a meta tensor has no numbers
        averages.state_dict()
    assert [totals.device.type for totals in summed] == ["meta"]


class Calls(Hook):
    """Keep the names of its calls, with the number of epochs and iterations done."""

    def __init__(self):
        self.calls = []

    def before_run(self, state):
        self.calls.append(("before_run", state.epoch, state.iteration))

    def before_epoch(self, state):
        self.calls.append(("before_epoch", state.epoch, state.iteration))

    def before_step(self, state, batch):
        self.calls.append(("before_step", state.epoch, state.iteration))

    def after_step(self, state, batch, result):
        self.calls.append(("after_step", state.epoch, state.iteration))

    def after_epoch(self, state):
        self.calls.append(("after_epoch", state.epoch, state.iteration))

    def after_evaluation(self, state, metrics):
        self.calls.append(("after_evaluation", state.epoch, sorted(metrics)[-1]))

    def after_run(self, state):
        self.calls.append(("after_run", state.epoch, state.iteration))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """`project(source, name)`: write a project module with this source after its `setup`; return the name."""

    def write(source, name="toy_project"):
        (tmp_path / f"{name}.py").write_text(f"def setup(cfg):\n    pass\n\n{source}")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, name, raising=False)
        return name

    return write


def test_a_task_and_a_project_add_hooks(tiny_cfg, project, monkeypatch):
    calls = Calls()

    class HookedTask(ClipTask):
        def hooks(self):
            return [calls]

    monkeypatch.setitem(TASK_REGISTRY._objects, "hooked", HookedTask)
    name = project("def hooks(cfg):\n    return [HOOK]\n")
    cfg = tiny_cfg("SOLVER.MAX_EPOCH", 1, "TASK", "hooked", "PROJECTS", [name])
    sys.modules[name].HOOK = other = Calls()
    train(cfg)
    assert calls.calls == other.calls == [
        ("before_run", 0, 0), ("before_epoch", 0, 0), ("before_step", 0, 0), ("after_step", 0, 1),
        ("before_step", 0, 1), ("after_step", 0, 2), ("before_step", 0, 2), ("after_step", 0, 3),
        ("after_epoch", 0, 3), ("after_evaluation", 1, "top1_err"), ("after_run", 1, 0),
    ]  # fmt: skip


def test_a_hook_hears_of_the_end_of_a_run_that_failed(tiny_cfg, monkeypatch):
    calls = Calls()
    monkeypatch.setattr(ClipTask, "hooks", lambda self: [calls])
    with pytest.raises(NonFiniteError):
        train(tiny_cfg("SOLVER.BASE_LR", 1e30))
    assert calls.calls[0][0] == "before_run" and calls.calls[-1][0] == "after_run"


def test_what_is_no_hook_is_refused_before_the_first_batch(tiny_cfg, project):
    name = project("def hooks(cfg):\n    return [print]\n")
    with pytest.raises(ValueError, match="'toy_project'.*Hook"):
        train(tiny_cfg("PROJECTS", [name]))


def test_a_task_derives_from_the_base_class(tiny_cfg, monkeypatch):
    monkeypatch.setitem(TASK_REGISTRY._objects, "loose", object)
    with pytest.raises(ValueError, match="'loose'.*Task"):
        build_task(tiny_cfg("TASK", "loose"))


@pytest.mark.parametrize(("last", "stops"), [(5.99, False), (6.01, True)])
def test_an_exploded_loss_stops_the_run(tiny_cfg, monkeypatch, last, stops):
    """Factor 2 times 3, the mean of the last five. An epoch's first losses have no five before them."""
    losses = iter([900.0, 1.0, 2.0, 3.0, 4.0, 5.0, last, *[1.0] * 5, 500.0, *[1.0] * 11])
    monkeypatch.setattr(ClipTask, "train_step", lambda self, *_: {"loss": torch.tensor(next(losses))})
    cfg = tiny_cfg("TRAIN.BATCH_SIZE", 1, "TRAIN.KILL_LOSS_EXPLOSION_FACTOR", 2.0)
    if stops:
        with pytest.raises(FloatingPointError, match=r"loss is 6\.01.*2 x 3,.*epoch 1/2, iteration 7/12"):
            train(cfg)
        assert find_checkpoints(cfg.OUTPUT_DIR) == []
    else:
        train(cfg)
    assert len(list(losses)) == (17 if stops else 0)


def test_a_full_disk_for_tensorboard_is_told_with_its_folder(tiny_cfg, told_of_limit):
    """TensorBoard writes in a thread, and raises the error at a later call."""
    cfg = tiny_cfg("TENSORBOARD.ENABLE", True)

    def work():
        recorder = Recorder(cfg)
        try:
            for step in range(100):
                recorder.record({"loss": 0.5}, "Train", step)
        finally:
            recorder.close()

    told = told_of_limit(1000, work)
    assert re.search(rf"bytes are free: '{cfg.OUTPUT_DIR}/runs-kinetics'", told), told
