"""Attribution through memory: the truth of the sweep videos, and the whole computation at once as a reference."""

import copy

import numpy as np
import pytest
import torch

import slowfast
from pgt import StepPlan
from slowfast.apps.predict.predictor import Predictor
from slowfast.apps.synthetic import render
from slowfast.apps.visualize.attribution import StepPath
from slowfast.apps.visualize.evidence import EvidenceSettings, evidence
from slowfast.datasets.video.reader import VideoError
from slowfast.engine.task import build_task
from slowfast.models import build_model

STEPS = [range(8), range(8, 15), range(15, 22), range(22, 29), range(29, 36)]
CLASS = 2  # whose attributions are held against references


@pytest.fixture(scope="module")
def predictor():
    return slowfast.load("zoo://sweep_pgt_36x1", device="cpu", dtype="fp32")


def video_of(seed, index):
    """Frames of a test video, and the numbers of those in which a disc crosses."""
    frames, events = render.render_video(seed, "test", index, 32)
    return frames, sorted(number for event in events for number in event.frames)


def early_video():
    """A video whose discs have crossed before the last step, so that memory alone knows them."""
    return next(
        (frames, crossing) for frames, crossing in (video_of(5, i) for i in range(60)) if crossing[-1] < STEPS[-1][0]
    )


def as_clip(frames):
    return ((torch.as_tensor(frames).permute(3, 0, 1, 2)[None].float() / 255) - 0.45) / 0.225


def log_score(model, clip, memory=None, wiped=()):
    """The logarithm of a class score after all steps, (B,); the graph holds all steps at once."""
    for number, frames in enumerate(STEPS):
        memory = None if number in wiped else memory
        scores, memory = model([clip[:, :, frames.start : frames.stop]], memory, full_gradient=True)
    return scores[:, CLASS].log()


def values_of(found):
    return np.array([frame.value for frame in found.frames])


@pytest.mark.slow
@pytest.mark.parametrize("method, least", [("integrated", 0.95), ("gradient", 0.9)])
def test_the_evidence_lies_on_the_frames_in_which_the_discs_cross(predictor, method, least):
    shares = []
    for seed in (1, 2, 3):
        for index in range(3):
            frames, crossing = video_of(seed, index)
            found = evidence(predictor, frames, settings=EvidenceSettings(method, 16))
            assert found.name == render.CLASS_NAMES[render.label_of(index)]
            shares.append(values_of(found)[crossing].sum())
    assert np.mean(shares) > least  # 22 % of the frames
    assert min(shares) > 0.8


def test_a_wiped_memory_has_no_evidence(predictor):
    frames, crossing = early_video()
    kept = evidence(predictor, frames, settings=EvidenceSettings(points=8))
    assert values_of(kept)[crossing].sum() > 0.9
    assert kept.score > 0.9
    wiped = evidence(predictor, frames, kept.label, settings=EvidenceSettings(points=8, wiped=[4]))
    assert wiped.score < 0.5
    assert (values_of(wiped)[: STEPS[-1].start] == 0).all()  # exactly, and all discs are there
    assert [frame.attribution for frame in wiped.frames[: STEPS[-1].start]] == [0] * STEPS[-1].start
    assert [step.value for step in wiped.steps] == pytest.approx([0, 0, 0, 0, 1])
    assert wiped.maps[: STEPS[-1].start].max() == 0
    assert all(operator.steps == [0] * 5 for operator in wiped.operators)


def test_shares_add_up(predictor):
    frames, _ = video_of(0, 1)
    found = evidence(predictor, frames, settings=EvidenceSettings(points=8))
    assert [frame.index for frame in found.frames] == list(range(36))
    assert [frame.time_s for frame in found.frames] == [number / 4 for number in range(36)]
    assert [(step.start_s, step.end_s) for step in found.steps] == [
        (frames.start / 4, frames.stop / 4) for frames in STEPS
    ]
    values = values_of(found)
    assert values.sum() == pytest.approx(1)
    assert values.min() >= 0
    by_step = [values[frames.start : frames.stop].sum() for frames in STEPS]
    assert [step.value for step in found.steps] == pytest.approx(by_step)
    np.testing.assert_allclose(found.maps.sum(axis=(1, 2)), values, atol=1e-6)
    assert found.maps.min() >= 0
    # All memory after a step holds the evidence of the frames so far.
    held = np.sum([operator.steps for operator in found.operators], axis=0)
    np.testing.assert_allclose(held, [*np.cumsum(by_step)[:-1], 0], atol=1e-6)
    assert {operator.name for operator in found.operators} == predictor.model.operators
    np.testing.assert_array_equal(found.pictures, frames)


def test_an_earlier_step_and_another_class(predictor):
    frames, _ = video_of(0, 1)
    answer = list(predictor.stream(frames))[2]
    found = evidence(predictor, frames, step=2, settings=EvidenceSettings(points=4))
    assert (found.step, found.name, found.score) == (2, answer.names[0], pytest.approx(float(answer.scores[0])))
    assert [frame.index for frame in found.frames] == list(range(22))
    same = evidence(predictor, frames, answer.names[0], step=-3, settings=EvidenceSettings(points=4))
    assert values_of(same).tolist() == values_of(found).tolist()
    other = evidence(predictor, frames, answer.names[1], step=2, settings=EvidenceSettings(points=4))
    assert (other.name, other.score) == (answer.names[1], pytest.approx(float(answer.scores[1])))


def test_gradients_are_those_of_the_whole_computation_at_once(predictor):
    frames, _ = video_of(0, 2)
    clip = as_clip(frames).requires_grad_()
    (gradient,) = torch.autograd.grad(log_score(predictor.model, clip).sum(), clip)
    mean = clip.mean(dim=2, keepdim=True)
    wanted = (gradient * (clip - mean)).sum(dim=(1, 3, 4))[0].detach().numpy()
    found = evidence(predictor, frames, CLASS, settings=EvidenceSettings("gradient"))
    np.testing.assert_allclose([frame.attribution for frame in found.frames], wanted, rtol=1e-3, atol=1e-4)


def test_gradients_are_finite_differences(predictor):
    """Moving a frame a little away from the mean frame changes the score by its attribution."""
    model = copy.deepcopy(predictor.model).double()
    clip = as_clip(video_of(0, 2)[0]).double()
    mean, small = clip.mean(dim=2, keepdim=True), 1e-7
    windows = [[clip[:, :, frames.start : frames.stop]] for frames in STEPS]
    path = StepPath(lambda inputs, memory: model(inputs, memory, full_gradient=True), windows)
    found = path.attribute(lambda scores: scores[:, CLASS].log(), points=0)
    pixels = torch.cat([pathways[0] for pathways in found.pixels]).sum(dim=(1, 2))
    for frame in (2, 9, 17, 24, 33):
        step = torch.zeros_like(clip)
        step[:, :, frame] = small * (clip - mean)[:, :, frame]
        with torch.no_grad():
            change = log_score(model, clip + step) - log_score(model, clip - step)
        assert float(pixels[frame]) == pytest.approx(float(change / (2 * small)), rel=1e-4, abs=1e-6)


def test_attributions_add_up_to_the_change_of_the_score(predictor):
    clip = as_clip(video_of(0, 1)[0])
    windows = [[clip[:, :, frames.start : frames.stop]] for frames in STEPS]
    path = StepPath(lambda inputs, memory: predictor.model(inputs, memory, full_gradient=True), windows)
    found = path.attribute(lambda scores: scores[:, CLASS].log(), points=64)
    by_step = [float(pathways[0].sum()) for pathways in found.pixels]
    assert sum(by_step) == pytest.approx(found.change, rel=0.1)
    with torch.no_grad():
        mean = clip.mean(dim=2, keepdim=True).expand_as(clip)
        change = log_score(predictor.model, clip) - log_score(predictor.model, mean)
    assert found.change == pytest.approx(float(change), rel=1e-4)
    # And the memory between two steps carries what all frames before it add.
    for number, parts in enumerate(found.conductance):
        assert sum(parts.values()) == pytest.approx(sum(by_step[: number + 1]), rel=0.1, abs=0.05 * abs(found.change))


def test_captum_integrates_the_same(predictor):
    attribution = pytest.importorskip("captum.attr")
    frames, _ = video_of(0, 2)
    clip = as_clip(frames)
    mean = clip.mean(dim=2, keepdim=True).expand_as(clip)
    integral = attribution.IntegratedGradients(lambda clip: log_score(predictor.model, clip))
    wanted = integral.attribute(clip, mean, n_steps=8, method="riemann_middle").sum(dim=(1, 3, 4))[0]
    found = evidence(predictor, frames, CLASS, settings=EvidenceSettings(points=8))
    np.testing.assert_allclose([frame.attribution for frame in found.frames], wanted, rtol=2e-3, atol=2e-4)


def test_every_kind_of_memory_passes_the_full_gradient(built, random_clip):
    cfg, model, plan = built
    model.double().requires_grad_(False)  # in float32 rounding decides which frame a maximum takes
    task, clips = build_task(cfg), random_clip(cfg, batch=1, dtype=torch.float64)
    path = StepPath(lambda inputs, memory: task.differentiable_step(model, inputs, memory), plan.split(clips))
    found = path.attribute(lambda scores: scores[:, 0], points=0)

    clips = [clip.requires_grad_() for clip in clips]
    memory = None
    for inputs in plan.split(clips):
        scores, memory = model(inputs, memory, full_gradient=True)
    mean = clips[-1].mean(dim=2, keepdim=True)
    gradients = torch.autograd.grad(scores[:, 0].sum(), clips)
    for pathway, (clip, gradient) in enumerate(zip(clips, gradients, strict=True)):
        wanted = (gradient * (clip - mean)).sum(dim=1)[0].detach()
        got = torch.cat([pathways[pathway] for pathways in found.pixels])
        assert wanted[: plan.frame_ranges(pathway)[-1].start].abs().max() > 0  # earlier steps have a part
        torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-9 * float(wanted.abs().max()))


def test_a_rule_of_memory_may_stop_the_gradient(predictor):
    frames, _ = video_of(0, 1)
    windows = [[as_clip(frames)[:, :, step.start : step.stop]] for step in STEPS]
    path = StepPath(lambda inputs, memory: predictor.model(inputs, memory, full_gradient=False), windows)
    found = path.attribute(lambda scores: scores[:, CLASS].log(), points=0)
    sizes = [float(pathways[0].abs().sum()) for pathways in found.pixels]
    assert sizes[:4] == [0, 0, 0, 0]
    assert sizes[4] > 0


def test_nothing_stays_on_the_model(predictor):
    frames, _ = video_of(0, 1)
    before = [answer.all_scores for answer in predictor.stream(frames)]
    weights = {name: x.clone() for name, x in predictor.model.state_dict().items()}
    evidence(predictor, frames, settings=EvidenceSettings(points=4))
    assert not predictor.model.full_gradient
    assert not predictor.model.training
    assert all(x.grad is None and not x.requires_grad for x in predictor.model.parameters())
    assert not any(module._forward_hooks or module._backward_hooks for module in predictor.model.modules())
    for name, x in predictor.model.state_dict().items():
        torch.testing.assert_close(x, weights[name], rtol=0, atol=0)
    for scores, answer in zip(before, predictor.stream(frames), strict=True):
        np.testing.assert_array_equal(scores, answer.all_scores)


def test_a_long_video_is_explained_by_its_last_steps(predictor):
    frames = np.concatenate([video_of(seed, 1)[0] for seed in range(3)])  # 108 frames: 16 steps, the last not complete
    found = evidence(predictor, frames, settings=EvidenceSettings(points=4, most_steps=3))
    answers = list(predictor.stream(frames))
    assert (found.step, found.left_out, len(found.steps)) == (15, 13, 3)
    assert found.score == pytest.approx(float(answers[-1].scores[0]), rel=1e-5)  # the memory before them is read
    assert values_of(found).sum() == pytest.approx(1)
    # The last frame, which fills the last step up, counts once.
    assert [frame.index for frame in found.frames] == list(range(92, 108))
    assert found.steps[-1].end_s == 27


def test_a_frame_has_the_attributions_of_both_pathways(progressive_cfg, parity):
    cfg = progressive_cfg("slowfast", "DATA.TARGET_FPS", 30, "DATA.SAMPLING_RATE", 1)
    model = parity.fill_module(build_model(cfg)).eval().requires_grad_(False)
    predictor = Predictor(model, cfg, torch.device("cpu"), [str(number) for number in range(cfg.MODEL.NUM_CLASSES)])
    video = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    found = evidence(predictor, video, settings=EvidenceSettings("gradient"))

    plan, clip = StepPlan.from_config(cfg), as_clip(video)
    inputs = [clip[:, :, plan.slow_indices()].requires_grad_(), clip.clone().requires_grad_()]
    memory = None
    for step in plan.split(inputs):
        scores, memory = model(step, memory, full_gradient=True)
    gradients = torch.autograd.grad(scores[0, found.label].log(), inputs)
    mean = clip.mean(dim=2, keepdim=True)
    slow, fast = ((g * (x - mean)).sum(dim=(0, 1, 3, 4)).detach() for g, x in zip(gradients, inputs, strict=True))
    wanted = fast.index_add(0, torch.tensor(plan.slow_indices()), slow).numpy()
    assert [frame.index for frame in found.frames] == list(range(40))
    got = [frame.attribution for frame in found.frames]
    np.testing.assert_allclose(got, wanted, rtol=0.02, atol=0.01 * np.abs(wanted).max())


def test_a_clip_model_has_the_evidence_of_its_clip_alone():
    predictor = slowfast.load("zoo://sweep_slow_8x1", device="cpu")
    frames, _ = video_of(0, 1)
    for step, first in ((1, 8), (-1, 28)):
        found = evidence(predictor, frames, step=step, settings=EvidenceSettings(points=4))
        answer = predictor.clips(frames)[step]
        assert (found.name, found.score) == (answer.names[0], pytest.approx(float(answer.scores[0]), rel=1e-5))
        assert [frame.index for frame in found.frames] == list(range(first, first + 8))
        assert [(s.start_s, s.end_s, s.value) for s in found.steps] == [
            (answer.start_s, answer.end_s, pytest.approx(1))
        ]
        assert found.operators == []


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"label": "left-up"}, "left-up.*left-right"),
        ({"label": 6}, "class 6 .* 6, from 0 to 5"),
        ({"step": 5}, "step 5 .* 5 steps, from 0 to 4"),
        ({"step": -6}, "step -6 .* 5 steps"),
        ({"settings": {"method": "gradients"}}, "gradients.*integrated, gradient"),
        ({"settings": {"most_steps": 0}}, "0 steps"),
        ({"settings": {"points": 0}}, "0 points"),
        ({"settings": {"wiped": [5]}}, "before step 5: step 4 "),
        ({"settings": {"wiped": [4, -1]}}, "before step -1"),
    ],
)
def test_mistakes_are_one_line(predictor, arguments, words):
    def ask():
        settings = EvidenceSettings(**arguments.get("settings", {}))
        evidence(predictor, video_of(0, 0)[0], **{**arguments, "settings": settings})

    with pytest.raises(ValueError, match=words) as error:
        ask()
    assert "\n" not in str(error.value)


def test_a_still_has_no_evidence_and_no_other_class_is_proposed(predictor):
    still = video_of(0, 0)[0][:1]
    with pytest.raises(ValueError, match="no frame speaks") as error:
        evidence(predictor, still, settings=EvidenceSettings(points=2))
    assert "another class" not in str(error.value)


def test_an_unreadable_video(predictor, tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(VideoError):
        evidence(predictor, tmp_path / "text.mp4")
