"""Features of whole videos and exported steps equal the chained model."""

import functools

import numpy as np
import pytest
import torch

from pgt import StepPlan
from slowfast.apps.export.export import export
from slowfast.apps.features.extract import FeatureOptions, extract
from slowfast.apps.features.files import load_features
from slowfast.datasets.video.open import open as open_video


@pytest.fixture
def filled(saved_weights, progressive_cfg):
    """`filled(variant, *more) -> (cfg, model)`: save filled weights of a variant's model."""
    return functools.partial(saved_weights, progressive_cfg)


def whole_video(path):
    """All frames as (1, 3, T, 32, 32), as the tiny configurations see them."""
    with open_video(path) as video:
        frames = torch.as_tensor(video.frames(range(video.num_frames)))
    return (frames.permute(3, 0, 1, 2)[None].float() / 255 - 0.45) / 0.225


@torch.no_grad()
def chained(model, steps):
    """Features in front of the head of every step of whole calls of the model."""
    caught = []
    hook = model.s5.register_forward_hook(lambda module, args, out: caught.append([f.clone() for f in out]))
    memory = None
    for step in steps:
        _, memory = model(step, memory)
    hook.remove()
    return [torch.cat([f.mean(dim=(2, 3, 4)) for f in features], dim=1)[0].numpy() for features in caught]


SWEEP = (
    "TEST.NUM_SPATIAL_CROPS",
    1,
    "DATA.TARGET_FPS",
    4,
    "DATA.SAMPLING_RATE",
    1,
    "DATA.TRAIN_JITTER_SCALES",
    [32, 32],
)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_video_is_read_in_steps_to_its_end(filled, sweep_data, tmp_path, workers):
    # The configuration's clips have 3 steps and 22 frames, the videos 36.
    cfg, model = filled("slow", *SWEEP, "DATA.PATH_TO_DATA_DIR", str(sweep_data), "DATA_LOADER.NUM_WORKERS", workers)
    extract(cfg, FeatureOptions(str(tmp_path / "f")))
    found = [load_features(str(path)) for path in sorted((tmp_path / "f").rglob("*.npz"))]
    assert len(found) == 2
    for record in found:
        video = whole_video(record.path)
        steps = [[video[:, :, first:end]] for first, end in ((0, 8), (8, 15), (15, 22), (22, 29), (29, 36))]
        np.testing.assert_allclose(record.features, chained(model, steps), 1e-4, 1e-5)
        assert record.frames.tolist() == [[0, 7], [8, 14], [15, 21], [22, 28], [29, 35]]
        np.testing.assert_allclose(record.times[:, 1], [2, 3.75, 5.5, 7.25, 9])


def test_both_pathways_and_crops_are_read_in_steps(filled, sweep_data, tmp_path):
    cfg, model = filled("slowfast_even_max", *SWEEP, "TEST.NUM_SPATIAL_CROPS", 3)
    path = next(iter(sorted((sweep_data / "videos/test").glob("*.mp4"))))
    extract(cfg, FeatureOptions(str(tmp_path / "f"), videos=(str(path),)))
    found = load_features(str(next((tmp_path / "f").rglob("*.npz"))))
    # 36 frames are 2 steps more of 12 behind the first 16: 4 frames are missing, for which the last one stands.
    video = whole_video(str(path))
    video = torch.cat([video, video[:, :, -1:].expand(-1, -1, 4, -1, -1)], dim=2)
    plan = StepPlan.from_config(cfg)
    steps = plan.split([video[:, :, plan.slow_indices()], video])
    expected = np.repeat(chained(model, steps), 3, axis=0)  # a square picture has the same crop three times
    np.testing.assert_allclose(found.features, expected, 1e-4, 1e-5)
    assert found.frames[::3].tolist() == [[0, 15], [16, 27], [28, 35]]
    assert found.crop.tolist() == [0, 1, 2] * 3


@pytest.mark.parametrize("variant", ["slow", "slowfast", "slowfast_surplus"])
@pytest.mark.parametrize("frames", [1, 7, 8, 9, 22, 100])
def test_steps_cover_a_video_of_any_length(progressive_cfg, variant, frames):
    plan = StepPlan.from_config(progressive_cfg(variant)).covering(frames)
    positions = plan.positions()
    fast = [position for step in positions for position in step[-1]]
    assert fast == list(range(plan.num_frames))
    assert plan.num_frames >= frames
    assert plan.steps == 1 or plan.num_frames - len(positions[-1][-1]) < frames
    for step in positions:
        assert set(step[0]) <= set(step[-1])


def test_features_take_memory_of_their_own_model_only(filled):
    _, model = filled("slow")
    with pytest.raises(ValueError, match="head of another model is of another model"):
        model.step_features([torch.zeros(1, 3, 7, 32, 32)], {"head of another model": torch.zeros(1)})


@torch.no_grad()
def run_files(folder, graphs, steps, kind):
    """Scores of every step by the exported files alone, the memory handed on by its names."""
    memory, scores = {}, []
    for number, step in enumerate(steps):
        graph = graphs[min(number, len(graphs) - 1)]
        given = {**dict(zip([i["name"] for i in graph["inputs"]], step, strict=False)), **memory}
        names = [output["name"] for output in graph["outputs"]]
        if kind == "onnx":
            session = pytest.importorskip("onnxruntime").InferenceSession(
                str(folder / f"{graph['name']}.onnx"), providers=["CPUExecutionProvider"]
            )
            found = session.run(names, {i["name"]: np.ascontiguousarray(given[i["name"]]) for i in graph["inputs"]})
        else:
            operators = {name.removeprefix("memory."): frames for name, frames in memory.items()}
            program = torch.export.load(str(folder / f"{graph['name']}.pt2")).module()
            result, new = program(step, operators) if number else program(step)
            found = [result, *new.values()]
        scores.append(torch.as_tensor(found[0]))
        memory = {name.replace("new_memory.", "memory."): v for name, v in zip(names[1:], found[1:], strict=True)}
    return scores


ONE_BLOCK = ("RESNET.NUM_BLOCK_TEMP_KERNEL", [[1]] * 4)
EXPORTS = {
    "slow_overlap": (ONE_BLOCK, ["onnx", "pt2"], ["first_step", "next_step"]),
    "slowfast_surplus": (("RESNET.NUM_BLOCK_TEMP_KERNEL", [[1, 1]] * 4), ["pt2"], ["first_step", "next_step"]),
    "progressive_nonlocal": (
        (*ONE_BLOCK, "NONLOCAL.LOCATION", [[[]], [[0]], [[0]], [[]]]),
        ["pt2"],
        ["first_step", "step_2", "next_step"],
    ),
    "mvit": ((), ["pt2"], ["first_step", "next_step"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("variant", EXPORTS)
def test_exported_steps_chain_to_the_model(filled, shallow, random_clip, run_steps, tmp_path, variant):
    more, formats, names = EXPORTS[variant]
    if "onnx" in formats:
        pytest.importorskip("onnxscript")
    cfg, model = filled(variant, *more, "MODEL.HEAD_ACT", "none")
    # Tracing for any number of clips takes several times as long.
    batch = None if "onnx" in formats else 1
    about = export(cfg, str(tmp_path / "e"), formats, batch)
    assert [graph["name"] for graph in about["graphs"]] == names
    assert {tensor["shape"][0] for graph in about["graphs"] for tensor in graph["inputs"]} == {batch or "batch"}
    steps = [[s.contiguous() for s in step] for step in StepPlan.from_config(cfg).split(random_clip(cfg, batch=1))]
    with torch.no_grad():
        expected, _ = run_steps(model, steps)
        wiped, _ = model(steps[-1])
    for kind in formats:
        found = run_files(tmp_path / "e", about["graphs"], steps, kind)
        torch.testing.assert_close(torch.stack(found), expected, rtol=1e-3, atol=1e-4)
    assert (wiped - expected[-1]).abs().max() > 1e-3 * expected[-1].abs().max()
