"""Sweep videos with a known gap between the events, counted in PGT's own steps."""

import json
from collections import Counter

import av
import numpy as np
import pytest

from pgt import StepPlan
from slowfast.apps.synthetic import __main__ as synthetic
from slowfast.apps.synthetic import render
from slowfast.apps.synthetic.sweep import SweepSpec, make_sweep

COUNTS = {"train": 1, "val": 1, "test": 1}


def steps_shown(spec: SweepSpec, events) -> list[int]:
    """Return the step of each event by the plan that a model of this STEP_LEN and OVERLAP has."""
    plan = StepPlan((spec.step_len,), (spec.overlap,), spec.steps)
    assert spec.num_frames == plan.num_frames
    steps = [[s for s, frames in enumerate(plan.frame_ranges()) if set(event.frames) & set(frames)] for event in events]
    assert all(len(found) == 1 for found in steps), "an event is in one step"
    return [found[0] for found in steps]


@pytest.mark.parametrize(
    ("options", "gaps"),
    [
        ({"steps": 5}, {1, 2, 3, 4}),
        ({"steps": 9, "min_gap": 3}, {3, 4, 5, 6, 7, 8}),
        ({"steps": 7, "min_gap": 2, "max_gap": 2, "step_len": 9, "overlap": 2}, {2}),
        ({"steps": 6, "step_len": 8, "overlap": 4, "lead": 2}, {1, 2, 3}),
        ({"steps": 67, "min_gap": 64, "lead": 2}, {64}),
    ],
)
def test_gaps_are_exact(options, gaps):
    spec = SweepSpec(**COUNTS, **options)
    found, places = Counter(), set()
    for index in range(400):
        rng = render.video_generator(0, "train", index)
        label = render.label_of(index)
        events = render.sample_events(rng, label, spec.size, grid=spec.grid)
        assert tuple(event.direction for event in events) == render.CLASSES[label]
        first, second = steps_shown(spec, events)
        assert spec.lead <= first and second < spec.steps
        found[second - first] += 1
        places.add((first, second))
    assert set(found) == gaps
    assert min(found.values()) > 0.6 * 400 / len(gaps), "all gaps are as likely"
    expected = {(first, first + gap) for gap in gaps for first in range(spec.lead, spec.steps - gap)}
    assert places == expected


def test_discs_are_drawn_where_the_gap_says():
    spec = SweepSpec(**COUNTS, steps=7, min_gap=3, max_gap=3, lead=2)
    for index in range(6):
        frames, events = spec.render("test", index)
        # Nothing else in a video is so much more red than blue.
        yellow = frames[..., 0].astype(int) - frames[..., 2] > 100
        shown = np.flatnonzero(yellow.sum(axis=(1, 2)) >= 12)
        assert shown.tolist() == [frame for event in events for frame in event.frames]
        first, second = steps_shown(spec, events)
        assert second - first == 3


def test_a_background_drawn_in_pieces_is_the_same():
    whole = render.background(np.random.default_rng(4), 50, 32, 36)
    scene = render.Background(np.random.default_rng(4), 32, 36)
    pieces = [scene.draw(first, count) for first, count in ((0, 8), (8, 7), (15, 35))]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_a_set_with_gaps_is_made_and_kept(tmp_path, capsys):
    command = ["--output", str(tmp_path), "--train", "1", "--val", "1", "--test", "2", "--workers", "0"]
    steps = ["--steps", "6", "--gap", "2", "3", "--lead", "1"]
    synthetic.main([*command, *steps])
    assert "made" in capsys.readouterr().out
    with av.open(str(tmp_path / "videos/test/test_000001.mp4")) as container:
        assert container.streams.video[0].frames == 8 + 5 * 7
    made = json.loads((tmp_path / "sweep.json").read_text())
    assert (made["steps"], made["min_gap"], made["max_gap"], made["lead"]) == (6, 2, 3, 1)
    synthetic.main([*command, *steps])
    assert "kept" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"max_gap 3 \(asked: 4\)"):
        synthetic.main([*command, "--steps", "6", "--gap", "2", "4", "--lead", "1"])


def test_the_usual_set_is_as_before(tmp_path):
    """Sets that were made before there were gaps are kept."""
    spec = SweepSpec(**COUNTS)
    assert make_sweep(tmp_path, spec)
    made = json.loads((tmp_path / "sweep.json").read_text())
    assert "steps" not in made and "lead" not in made
    assert not make_sweep(tmp_path, spec)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_gap": 2}, "number of steps"),
        ({"steps": 5, "min_gap": 5}, "5 to 4"),
        ({"steps": 5, "max_gap": 4, "lead": 1}, "1 to 4"),
        ({"steps": 5, "min_gap": 3, "max_gap": 2}, "3 to 2"),
        ({"steps": 5, "step_len": 8, "overlap": 5}, "4 frames of an event"),
        ({"steps": 1}, "1 to 0"),
    ],
)
def test_impossible_gaps_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SweepSpec(**COUNTS, **options)


def test_gaps_belong_to_sweep(tmp_path):
    with pytest.raises(SystemExit, match="belong to sweep"):
        synthetic.main(["--output", str(tmp_path), "--format", "ava", "--steps", "5"])
