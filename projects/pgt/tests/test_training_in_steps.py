"""Training clips that are read step by step: the same clips and the same training, in the memory of a few steps."""

import contextlib
import itertools
import tracemalloc

import numpy as np
import pytest
import torch

from pgt.task import ProgressiveTask
from slowfast.checkpoint.io import checkpoint_path, load_checkpoint
from slowfast.datasets import build, step_loading
from slowfast.datasets.clips.clip_maker import ClipMaker
from slowfast.datasets.step_loading import StepLoader
from slowfast.datasets.video.cache import ArrayVideo
from slowfast.datasets.video.reader import VideoError
from slowfast.engine.epoch_config import build_state
from slowfast.engine.train import train
from slowfast.runtime.seed import seeded_generator

IN_STEPS = ("DATA_LOADER.IN_STEPS", True)
STRONG = ("AUG.ENABLE", True, "AUG.RE_MODE", "const", "AUG.RE_PROB", 0.7, "AUG.NUM_SAMPLE", 2)
RECIPES = {
    "plain": (),
    "several lengths": ("PGT.STEPS_RANGE", [2, 4]),
    "RandAugment, erasing, copies": (*STRONG, "AUG.AA_TYPE", "rand-m9-n3-mstd0.5-inc1"),
    "jitter, erasing, crops": (
        *STRONG, "AUG.AA_TYPE", "", "AUG.COLOR_JITTER", 0.4, "DATA.COLOR_RND_GRAYSCALE", 0.5,
        "DATA.TRAIN_CROP_NUM_SPATIAL", 2, "AUG.NUM_SAMPLE", 1,
    ),
    "random areas": ("DATA.TRAIN_JITTER_SCALES_RELATIVE", [0.1, 1.0], "DATA.TRAIN_JITTER_FPS", 2.0),
    "workers": ("DATA_LOADER.NUM_WORKERS", 2),
}  # fmt: skip


@pytest.fixture(autouse=True)
def few_frames_ahead(monkeypatch):
    monkeypatch.setattr(step_loading, "LONG_CLIP_BYTES", 2 * 12 * 32 * 32 * 7)  # two steps of two clips


def batches_of(cfg, epoch=0, start=0):
    """Return (batch without inputs, inputs of each step) for every batch of an epoch."""
    state, made = build_state(cfg), []
    state.loader.batch_sampler.set_epoch(epoch, start)
    assert isinstance(state.loader, StepLoader) == cfg.DATA_LOADER.IN_STEPS
    for batch in state.loader:
        plan = state.task.plan.for_frames(batch.num_frames)
        made.append((batch, [[clip.clone() for clip in step] for step in batch.in_steps(plan.split)]))
    return made


@pytest.mark.parametrize("recipe", RECIPES)
def test_batches_are_those_of_whole_clips(recipe, run_cfg):
    for epoch, start in ((0, 0), (1, 1)):
        whole = batches_of(run_cfg(*RECIPES[recipe]), epoch, start)
        steps = batches_of(run_cfg(*RECIPES[recipe], *IN_STEPS), epoch, start)
        assert len(whole) == len(steps) == 3 - start
        for (batch, truth), (stepped, read) in zip(whole, steps, strict=True):
            for name in ("labels", "video", "view"):
                assert torch.equal(getattr(batch, name), getattr(stepped, name))
            assert stepped.size == batch.size and stepped.num_frames == batch.num_frames
            assert [[clip.shape for clip in step] for step in read] == [[clip.shape for clip in step] for step in truth]
            assert all(map(torch.equal, itertools.chain(*read), itertools.chain(*truth)))


@pytest.mark.parametrize(
    "recipe, size", [("plain", 1), ("jitter, erasing, crops", 2), ("RandAugment, erasing, copies", 3)]
)
def test_whole_frames_count_where_augmentation_reads_them(recipe, size, run_cfg, monkeypatch):
    """Frames of 120 x 90: beside them a crop of 32 pixels is small."""
    dataset, read = build_state(run_cfg(*RECIPES[recipe], *IN_STEPS)).loader.dataset, []

    class Recording(ArrayVideo):
        def frames(self, indices):
            read.append(len(indices))
            return super().frames(indices)

    video, whole, cut = Recording(np.zeros((60, 90, 120, 3), np.uint8), 4.0), 3 * 90 * 120, 12 * 32 * 32
    monkeypatch.setattr(dataset.clips, "_open", lambda path: contextlib.nullcontext(video))
    steps = [[[frame]] for frame in range(dataset.clips.settings.num_frames)]
    frame = {1: cut, 2: whole + 2 * cut, 3: 2 * whole + 2 * cut}[size]
    list(dataset.clips.training_steps("a", seeded_generator(0, "train"), None, steps, most_bytes=6 * frame))
    assert max(read) == 6


def test_a_step_that_is_not_read_is_no_part_of_the_next_batch(run_cfg):
    batches = iter(build_state(run_cfg(*IN_STEPS)).loader)
    next(next(batches).in_steps(None))
    with pytest.raises(RuntimeError, match="left before its last step"):
        next(batches)


def test_each_process_reads_its_share_in_steps(run_cfg, monkeypatch):
    """Two hosts of one process each."""
    monkeypatch.setattr(build, "get_world_size", lambda: 2)
    seen = []
    for rank in (0, 1):
        monkeypatch.setattr(build, "get_rank", lambda rank=rank: rank)
        whole, steps = batches_of(run_cfg()), batches_of(run_cfg(*IN_STEPS))
        assert len(whole) == len(steps) == 1
        for (batch, truth), (stepped, read) in zip(whole, steps, strict=True):
            assert torch.equal(batch.video, stepped.video)
            assert all(map(torch.equal, itertools.chain(*read), itertools.chain(*truth)))
            seen += batch.video.tolist()
    assert len(set(seen)) == 4


def weights_after(cfg, epochs=2):
    return load_checkpoint(checkpoint_path(cfg.OUTPUT_DIR, epochs))["model_state"]


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("PGT.TRAIN_TOGETHER", False, "DATA_LOADER.NUM_WORKERS", 2),
        RECIPES["several lengths"],
        ("DATA_LOADER.NORMALIZE_ON_DEVICE", True),
    ],
)
def test_training_is_that_of_whole_clips(more, run_cfg, tmp_path, cut_off_at):
    """Also where it is stopped in the middle of an epoch and goes on."""
    more = ("SOLVER.MAX_EPOCH", 2, *more)
    folders = [("OUTPUT_DIR", str(tmp_path / name)) for name in ("whole", "steps", "resumed")]
    configs = [run_cfg(*more, *at, *way) for at, way in zip(folders, ((), IN_STEPS, IN_STEPS), strict=True)]
    train(configs[0])
    train(configs[1])
    cut_off_at(configs[2], 2)
    train(configs[2])
    whole, *others = (weights_after(cfg) for cfg in configs)
    for other in others:
        assert whole.keys() == other.keys() and all(torch.equal(whole[name], other[name]) for name in whole)


def test_a_slow_pathway_is_read_in_steps_too(progressive_cfg, sweep_data):
    at = ("DATA.PATH_TO_DATA_DIR", str(sweep_data), "DATA.TARGET_FPS", 4, "DATA.SAMPLING_RATE", 1)
    at += ("DATA.TRAIN_JITTER_SCALES", [40, 40], "DATA_LOADER.NUM_WORKERS", 0)
    at += ("MODEL.NUM_CLASSES", 8)
    whole, steps = (batches_of(progressive_cfg("slowfast_surplus", *at, *way)) for way in ((), IN_STEPS))
    for (_, truth), (_, read) in zip(whole, steps, strict=True):
        assert all(map(torch.equal, itertools.chain(*read), itertools.chain(*truth)))


@pytest.mark.parametrize("broken_step", [0, 2])
def test_a_file_that_breaks_off(run_cfg, monkeypatch, broken_step):
    """One that cannot be begun is replaced, as in whole clips. Behind that its last frame is shown to the end."""
    plain = ClipMaker.training_steps

    def breaking(self, path, *args):
        if not path.endswith(broken):
            yield from plain(self, path, *args)
            return
        yield from itertools.islice(plain(self, path, *args), broken_step)
        raise VideoError(path, "broken")

    truth = batches_of(run_cfg(*IN_STEPS))
    dataset = build_state(run_cfg()).loader.dataset
    number = int(truth[1][0].video[1])
    broken = dataset.paths[number]
    monkeypatch.setattr(ClipMaker, "training_steps", breaking)
    made = batches_of(run_cfg(*IN_STEPS))
    # A substitute is drawn from all videos, and may be the same one.
    assert [set(batch.unreadable) for batch, _ in made] == [set(), {(broken, "broken")}, set()]
    (batch, read), (_, whole) = made[1], truth[1]
    assert torch.equal(read[0][0][0], whole[0][0][0])
    if broken_step == 0:
        assert batch.video[1] != number
    else:
        assert torch.equal(read[1][0], whole[1][0])
        last = whole[1][0][1, :, -1]
        assert torch.equal(read[2][0][1], last[:, None].expand_as(read[2][0][1]))
        assert torch.equal(read[2][0][0], whole[2][0][0])


def test_a_broken_file_counts_among_the_unreadable(run_cfg, monkeypatch):
    plain = ClipMaker.training_steps

    def breaking(self, path, *args):
        yield from itertools.islice(plain(self, path, *args), 1)
        raise VideoError(path, "broken")

    monkeypatch.setattr(ClipMaker, "training_steps", breaking)
    with pytest.raises(RuntimeError, match="cannot be read"):
        train(run_cfg(*IN_STEPS))


def test_a_batch_is_never_whole_in_memory(run_cfg, monkeypatch):
    """Of 100 steps, 301 frames of 32 x 32; tensors' memory is counted by what is alive."""
    monkeypatch.setattr(step_loading, "LONG_CLIP_BYTES", 2**17)
    cfg = run_cfg(*IN_STEPS, "PGT.STEPS", 100, "DATA.NUM_FRAMES", 301, "DATA.SAMPLING_RATE", 1)
    state = build_state(cfg)
    steps = 0
    tracemalloc.start()
    for batch in state.loader:
        steps += sum(1 for _ in batch.in_steps(state.task.plan.split))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert steps == 300
    assert peak < 2 * 301 * 32 * 32 * 12 / 3


@pytest.mark.parametrize(
    "more, named",
    [
        (("PGT.ENABLE", False), "TASK"),
        (("MIXUP.ENABLE", True, "MODEL.LOSS_FUNC", "soft_cross_entropy"), "MIXUP"),
        (("BN.USE_PRECISE_STATS", True), "BN.USE_PRECISE_STATS"),
        (("DATA.DUMMY_LOAD", True), "DATA.DUMMY_LOAD"),
        (("DATA.TRAIN_CROP_NUM_TEMPORAL", 2), "TRAIN_CROP_NUM_TEMPORAL"),
        (("AUG.ENABLE", True, "AUG.RE_PROB", 0.5, "AUG.RE_MODE", "pixel"), "AUG.RE_MODE pixel"),
        (("DATA.TIME_DIFF_PROB", 0.5), "TIME_DIFF_PROB"),
    ],
)
def test_what_needs_whole_clips_is_refused(more, named, run_cfg):
    with pytest.raises(ValueError, match="DATA_LOADER.IN_STEPS True .*" + named):
        build_state(run_cfg(*IN_STEPS, *more))


def test_the_first_step_is_trained_before_the_rest_is_decoded(run_cfg, monkeypatch):
    decoded, trained = [], []
    plain, plain_step = ClipMaker.training_steps, ProgressiveTask.train_step

    def counting(self, *args):
        for clips in plain(self, *args):
            decoded.append(0)
            yield clips

    def step(self, model, batch, optim_step):
        trained.append(len(decoded))
        return plain_step(self, model, batch, optim_step)

    monkeypatch.setattr(ClipMaker, "training_steps", counting)
    monkeypatch.setattr(ProgressiveTask, "train_step", step)
    train(run_cfg(*IN_STEPS, "SOLVER.MAX_EPOCH", 1))
    assert trained == [2, 8, 14]  # the first step of two clips, of three
