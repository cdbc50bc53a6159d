import sys
from types import SimpleNamespace

import pytest
import torch

from slowfast.engine.hooks import ProgressBar
from slowfast.engine.meters import Averages


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
    restored.load_state_dict(averages.state_dict())
    for part in (averages, restored):
        part.add({"loss": torch.tensor(4.0), "top1_err": torch.tensor(0.0)}, samples=3)
        assert part.read() == {"loss": 3.25, "top1_err": 25.0}
    assert Averages().read() == {}
