"""A clip checkpoint goes into a Markov model and back, through files, and is counted from the start there."""

import torch

from slowfast.checkpoint import load_checkpoint, load_weights, write_tensor_file
from slowfast.checkpoint.io import save_checkpoint
from slowfast.engine.epoch_config import build_state
from slowfast.engine.resume import start_training_from
from slowfast.models import build_model

CLIP = ["PGT.ENABLE", False]


def test_there_and_back(progressive_cfg, variant, tmp_path):
    """Every kind of model, the clip as long as a step; a checkpoint one way and a safetensors file the other."""
    cfg = progressive_cfg(variant)
    one_step = [] if cfg.SLOWFAST.SLOW_INDICES else ["DATA.NUM_FRAMES", cfg.PGT.STEP_LEN[0]]
    there, back_again = str(tmp_path / "clip.pyth"), str(tmp_path / "steps.safetensors")
    torch.manual_seed(0)
    clip = build_model(progressive_cfg(variant, *CLIP, *one_step))
    save_checkpoint({"model_state": clip.state_dict()}, there)
    torch.manual_seed(1)
    steps = build_model(cfg)
    report = load_weights(steps, load_checkpoint(there)["model_state"], there, allow_missing=True)
    assert not (report.unexpected or report.mismatched) and all(".policy." in key for key in report.missing)
    assert bool(report.missing) == (cfg.PGT.CACHE in ("gate", "slots"))
    write_tensor_file(steps.state_dict(), back_again)
    torch.manual_seed(2)
    back = build_model(progressive_cfg(variant, *CLIP, *one_step))
    new = report.missing
    report = load_weights(back, load_checkpoint(back_again)["model_state"], back_again)
    assert not (report.missing or report.mismatched or report.transformed) and sorted(report.unexpected) == sorted(new)
    loaded = back.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in clip.state_dict().items())


def test_training_in_steps_starts_anew_from_a_clip_models_file(run_cfg, tmp_path):
    """Its weights are taken, and neither its epochs nor its optimizer, though the file has both."""
    clip = build_state(run_cfg(*CLIP))
    clip.epoch = 2
    path = str(tmp_path / "clip.pyth")
    save_checkpoint(clip.capture(), path)
    cfg = run_cfg("TRAIN.CHECKPOINT_FILE_PATH", path, "SOLVER.MAX_EPOCH", 5, "OUTPUT_DIR", str(tmp_path / "steps"))
    steps = build_state(cfg)
    start_training_from(steps)
    assert steps.epoch == 0
    assert all(torch.equal(v, steps.model.state_dict()[k]) for k, v in clip.model.state_dict().items())


def test_a_run_resumed_with_other_steps_and_memory_says_so(run_cfg, tmp_path, caplog):
    before = build_state(run_cfg("SOLVER.MAX_EPOCH", 5))
    before.epoch = 2
    path = str(tmp_path / "steps.pyth")
    save_checkpoint(before.capture(), path)
    changed = ["PGT.CACHE", "avg", "PGT.CACHE_MOMENTUM", 0.5, "PGT.TRAIN_TOGETHER", not before.cfg.PGT.TRAIN_TOGETHER]
    state = build_state(run_cfg("SOLVER.MAX_EPOCH", 5, "TRAIN.CHECKPOINT_FILE_PATH", path, *changed))
    start_training_from(state)
    assert state.epoch == 2
    for key, value in zip(changed[::2], changed[1::2], strict=True):
        assert f"{key} {value} (was {before.cfg.PGT[key.removeprefix('PGT.')]})" in caplog.text
