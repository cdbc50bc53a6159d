"""Progressive training on machines with an odd clock and a file system like NFS."""

import torch

from slowfast.engine.train import train


def test_a_run_that_was_stopped_on_an_odd_host_ends_like_an_undisturbed_one(
    run_cfg, cut_off_at, odd_host, last_state, tmp_path, monkeypatch
):
    """One host flushes no folder, and the next loses the answers to renames; weights and optimizer stay bitwise."""
    settings = ["SOLVER.MAX_EPOCH", 2, "TRAIN.CHECKPOINT_PERIOD", 1, "TENSORBOARD.ENABLE", True]
    quiet, odd = (run_cfg(*settings, "OUTPUT_DIR", str(tmp_path / name)) for name in ("quiet", "odd"))
    train(quiet)
    monkeypatch.setenv("TZ", "Nowhere/Odd")
    with odd_host("clock zero", "no fsync of folders", "no locks", "stale rename"):
        cut_off_at(odd, 2)
    with odd_host("clock jumps", "rename answer lost", "locks not supported"):
        train(odd)
    one, other = last_state(quiet), last_state(odd)
    assert one["model_state"].keys() == other["model_state"].keys()
    for key, value in one["model_state"].items():
        assert torch.equal(value, other["model_state"][key])
    for key, state in one["optimizer_state"]["state"].items():
        for name, value in state.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(other["optimizer_state"]["state"][key][name]))
