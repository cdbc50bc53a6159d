"""Identities of persons on courses that are known."""

import numpy as np
import pytest

from slowfast.apps.people.tracker import PersonTracker
from slowfast.utils.boxes import iou


def box_at(x, y, width=20, height=50):
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def follow(frames, **options):
    """Track frames of {name: (box, score)}, shuffled; return, for each frame, {name: identity}."""
    tracker, rng, found = PersonTracker(**options), np.random.default_rng(0), []
    for frame in frames:
        names = [str(name) for name in rng.permutation(sorted(frame))]
        persons = tracker.update(
            np.array([frame[name][0] for name in names]).reshape(-1, 4), np.array([frame[name][1] for name in names])
        )
        name_of = {tuple(frame[name][0]): name for name in names}
        found.append({name_of[tuple(person.box)]: person.identity for person in persons})
    return found


def identities(found, name):
    return {frame[name] for frame in found if name in frame}


def test_persons_keep_their_identity_past_each_other():
    rng = np.random.default_rng(1)
    frames = [
        {
            "right": (box_at(20 + 4 * t + rng.normal(0, 0.5), 60), 0.9),
            "left": (box_at(260 - 4 * t + rng.normal(0, 0.5), 112), 0.8),
            "stands": (box_at(140 + rng.normal(0, 0.5), 180), 0.7),
        }
        for t in range(60)
    ]
    assert all(iou(np.array([f["right"][0]]), np.array([f["left"][0]])) == 0 for f in frames)
    found = follow(frames)
    assert all(len(frame) == 3 for frame in found)
    assert [identities(found, name) for name in ("right", "left", "stands")] == [
        {found[0][name]} for name in ("right", "left", "stands")
    ]
    assert sorted(found[0].values()) == [1, 2, 3]


def test_a_person_who_was_hidden_is_found_where_the_motion_leads():
    # "walks" is hidden for ten frames, and has moved by two widths when seen again; "other" walks the other way there.
    frames = [{"walks": (box_at(20 + 4 * t, 60), 0.9), "other": (box_at(180 - 4 * t, 60), 0.9)} for t in range(50)]
    for t in range(15, 25):
        del frames[t]["walks"]
    assert iou(np.array([frames[14]["walks"][0]]), np.array([frames[25]["walks"][0]])) == 0
    found = follow(frames, keep=10)
    assert identities(found, "walks") == {found[0]["walks"]}
    assert identities(found, "other") == {found[0]["other"]}
    # Kept for one frame less, it is somebody new, with a number that nobody had.
    found = follow(frames, keep=9)
    assert identities(found, "walks") == {found[0]["walks"], 3}


def test_a_low_score_continues_a_person_and_begins_none():
    scores = [0.9, 0.9, 0.3, 0.2, 0.3, 0.9, 0.05, 0.9]
    frames = [
        {"person": (box_at(50 + 3 * t, 60), score), "shadow": (box_at(150, 60), 0.4)} for t, score in enumerate(scores)
    ]
    found = follow(frames)
    assert found == [{"person": 1}] * 6 + [{}, {"person": 1}]
    assert follow(frames, low=0.25)[3] == {}


def test_a_low_score_does_not_bring_back_a_person_who_was_lost():
    frames = [{"person": (box_at(50, 60), 0.9)}] * 3 + [{}] * 2 + [{"person": (box_at(50, 60), 0.3)}]
    assert follow(frames)[-1] == {}


def test_the_greatest_overlap_is_matched_first():
    tracker = PersonTracker()
    tracker.update(np.array([box_at(50, 60), box_at(62, 60)]), np.array([0.9, 0.9]))
    # The first box lies between the two persons, nearer to the second, who is there no more.
    (person,) = tracker.update(np.array([box_at(57, 60)]), np.array([0.9]))
    assert person.identity == 2
    assert person.score == 0.9


def test_an_empty_frame_has_nobody():
    assert PersonTracker().update(np.zeros((0, 4)), np.zeros(0)) == []


@pytest.mark.parametrize("options", [{"low": 0.6}, {"high": 1.5}, {"least_iou": 0.0}, {"keep": -1}])
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match=str(next(iter(options.values())))):
        PersonTracker(**options)
