"""Scenes of the set after CATER, without pictures: motion, containment, cells, and what the last frames tell."""

import dataclasses
from itertools import combinations

import numpy as np
import pytest

from slowfast.apps.synthetic.cater import compositions
from slowfast.apps.synthetic.cater.dataset import SCALES, CaterSpec
from slowfast.apps.synthetic.cater.objects import Object
from slowfast.apps.synthetic.cater.planner import make_world
from slowfast.apps.synthetic.cater.scene import Scene
from slowfast.apps.synthetic.cater.world import Action, WorldSpec, cell_of

CAN_HOLD = ("medium", "large")  # cones of these sizes have room for the snitch


@pytest.fixture(scope="module")
def easy() -> list[Scene]:
    """Make scenes of `small`, four for each slot in which the snitch is seen last."""
    return [CaterSpec("small").scene("train", index) for index in range(40)]


@pytest.fixture(scope="module")
def scenes(easy) -> list[Scene]:
    """Make scenes of both difficulties."""
    return easy + [CaterSpec("full", moving=True, seed=1).scene("test", index) for index in range(20)]


def outermost(inside: np.ndarray, index: int) -> int:
    """Return the outermost cone over an object in a frame."""
    return index if inside[index] < 0 else outermost(inside, inside[index])


def test_what_is_under_a_cone_moves_with_it(scenes):
    carried = 0
    for world in (scene.world for scene in scenes):
        for frame, index in np.argwhere(world.inside >= 0):
            cone = world.inside[frame, index]
            assert world.objects[cone].shape == "cone"
            np.testing.assert_allclose(world.positions[frame, index], world.positions[frame, cone], atol=1e-9)
            assert world.positions[frame, index, 2] == 0
        carried += np.any(np.diff(world.positions[world.inside[:, 0] >= 0, 0], axis=0) != 0)
    assert carried > len(scenes) / 3


def test_in_still_the_snitch_ends_where_it_was_seen_last():
    slides = 0
    for index in range(40):
        scene = CaterSpec("still").scene("train", index)
        world = scene.world
        cones = [number for number, thing in enumerate(world.objects) if thing.holds(world.objects[0])]
        assert len(cones) >= 3
        moved = {action.actor for action in world.actions if action.kind == "slide"}
        assert not moved & set(cones)
        slides += len(moved)
        np.testing.assert_array_equal(
            world.positions[scene.last_visible :, 0],
            world.positions[[-1], 0].repeat(len(world.positions) - scene.last_visible, axis=0),
        )
    assert slides > 20  # of other objects, and of the open snitch


def test_objects_fit_under_their_cones(scenes):
    held = {
        (world.objects[index], world.objects[world.inside[frame, index]])
        for world in (scene.world for scene in scenes)
        for frame, index in np.argwhere(world.inside >= 0)
    }
    assert {thing.shape for thing, _ in held} == {"snitch", "sphere", "cone"}
    for thing, cone in held:
        heights = np.linspace(0, thing.height, 200)
        if thing.shape == "cone":
            widths = thing.radius * (1 - heights / thing.height)
        else:
            widths = np.sqrt(np.maximum(0, thing.radius**2 - (heights - thing.radius) ** 2))
        assert (widths <= cone.radius * (1 - heights / cone.height) + 1e-9).all(), (thing, cone)


def test_objects_never_run_into_each_other(scenes):
    for world in (scene.world for scene in scenes):
        for one, two in combinations(range(len(world.objects)), 2):
            gap = np.linalg.norm(world.positions[:, one, :2] - world.positions[:, two, :2], axis=1)
            close = gap < world.objects[one].radius + world.objects[two].radius
            for frame in np.flatnonzero(close):
                low, high = sorted((one, two), key=lambda index: world.positions[frame, index, 2])
                over = world.positions[frame, high, 2] >= world.objects[low].height
                together = outermost(world.inside[frame], one) == outermost(world.inside[frame], two)
                # A cone that comes down over something, or is taken off it, stands right above it.
                lifted = world.objects[high].shape == "cone" and gap[frame] < 1e-9
                assert over or together or lifted, (one, two, frame)


def test_objects_move_only_by_their_actions(scenes):
    for world in (scene.world for scene in scenes):
        allowed = np.zeros(world.angles.shape, bool)
        for action in world.actions:
            assert action.start // 30 == (action.end - 1) // 30  # in one slot
            span = slice(action.start, action.end)
            assert not allowed[span, action.actor].any()  # one action at a time
            allowed[span, action.actor] = True
            if action.kind == "rotate":
                assert world.objects[action.actor].shape in ("snitch", "cube", "cylinder")
                assert not np.diff(world.positions[span, action.actor], axis=0).any()
        moves = np.abs(np.diff(world.positions, axis=0)).max(-1) + np.abs(np.diff(world.angles, axis=0))
        for frame, index in np.argwhere(moves > 1e-9) + (1, 0):
            assert allowed[frame, outermost(world.inside[frame], index)]


def test_every_slot_has_at_most_two_actions_and_cones_are_placed_over_their_target(scenes):
    contained = 0
    for world in (scene.world for scene in scenes):
        assert np.bincount([action.start // 30 for action in world.actions]).max() <= 2
        for action in (action for action in world.actions if action.kind == "contain"):
            assert world.inside[action.end - 1, action.target] == action.actor
            assert world.inside[action.end - 2, action.target] == -1
            contained += 1
    assert contained > len(scenes)


def test_cells_are_the_squares_of_the_grid():
    for row in range(6):
        for column in range(6):
            places = np.random.default_rng(row).uniform((column - 3, 2 - row), (column - 2, 3 - row), (20, 2))
            assert (cell_of(places) == 6 * row + column).all()
    assert cell_of(np.array([[-9.0, 9.0], [9.0, -9.0]])).tolist() == [0, 35]


def test_the_snitch_is_seen_last_in_each_slot_equally_often(scenes):
    for number in range(0, len(scenes), 10):
        assert [scene.last_visible // 30 for scene in scenes[number : number + 10]] == list(range(10))


def test_the_snitch_is_covered_for_good_once_it_is_seen_no_more(scenes):
    open_at_the_end = 0
    for scene in scenes:
        covered = scene.world.inside[:, 0] >= 0
        assert (scene.seen[covered] == 0).all()
        if covered[-1]:
            assert covered[scene.last_visible + 30 :].all()
        open_at_the_end += not covered[-1]
    assert open_at_the_end == len(scenes) / 20


def test_last_frames_do_not_tell_the_cell(easy):
    moved, guesses = [], []
    for scene in easy:
        world = scene.world
        moved.append(world.cells[scene.last_visible] != scene.label)
        possible = [
            index
            for index, thing in enumerate(world.objects)
            if thing.shape == "cone" and thing.size in CAN_HOLD and world.inside[-1, index] < 0
        ]
        if world.inside[-1, 0] >= 0:
            assert outermost(world.inside[-1], 0) in possible
            guesses.append(1 / len(possible))
    assert np.mean(moved) > 0.6
    assert np.mean(guesses) < 0.4


def test_scenes_depend_on_seed_split_and_index_alone():
    spec = CaterSpec("tiny", train=3)
    again = dataclasses.replace(spec, train=9, size=96)
    positions = {}
    for split in ("train", "test"):
        for index in (0, 1):
            one, two = spec.scene(split, index), again.scene(split, index)
            assert one.world.objects == two.world.objects and one.world.actions == two.world.actions
            np.testing.assert_array_equal(one.world.positions, two.world.positions)
            positions[split, index] = one.world.positions.tobytes()
    assert len(set(positions.values())) == 4
    other = dataclasses.replace(spec, seed=1).scene("train", 0)
    assert other.world.positions.tobytes() not in positions.values()


def test_cameras_see_the_grid_and_only_moving_ones_move(scenes):
    corners = np.array([[x, y, 0.0] for x in (-3, 3) for y in (-3, 3)])
    for scene in scenes:
        where = scene.camera.project(np.broadcast_to(corners, (300, 4, 3)))
        assert where.min() > -0.03 and where.max() < 1.03
        axes = np.stack([scene.camera.right, scene.camera.up, scene.camera.forward], axis=1)
        np.testing.assert_allclose(axes @ axes.transpose(0, 2, 1), np.broadcast_to(np.eye(3), (300, 3, 3)), atol=1e-9)
    assert not np.diff(scenes[0].camera.eye, axis=0).any()
    steps = np.linalg.norm(np.diff(scenes[-1].camera.eye, axis=0), axis=1)
    assert 0 < steps.max() < 0.4


def test_there_are_301_compositions_and_their_names_differ():
    names = compositions.class_names()
    assert len(compositions.ATOMS) == 14
    assert len(set(names)) == len(names) == 301
    assert sum(" before " in name for name in names) == 14 * 14


@pytest.mark.parametrize(
    ("one", "two", "name"),
    [
        (("slide", 0, 5, 20), ("contain", 1, 20, 28), "slide snitch before contain cone"),
        (("slide", 0, 5, 21), ("contain", 1, 20, 28), "slide snitch during contain cone"),
        (("contain", 1, 40, 50), ("slide", 0, 5, 20), "slide snitch before contain cone"),
        (("slide", 1, 31, 50), ("slide", 2, 33, 45), "slide cube during slide cone"),
        (("rotate", 2, 0, 9), ("pick-place", 2, 30, 50), "rotate cube before pick-place cube"),
    ],
)
def test_compositions_say_which_action_came_first(one, two, name):
    shapes = ["snitch", "cone", "cube"]
    number = compositions.composition(Action(*one), Action(*two), shapes)
    assert compositions.class_names()[number] == name
    assert compositions.composition(Action(*two), Action(*one), shapes) == number


def test_compositions_of_a_scene_are_those_of_all_its_pairs(easy):
    names = compositions.class_names()
    for world in (scene.world for scene in easy[:10]):
        expected = set()
        for one, two in combinations(world.actions, 2):
            (a, b) = (f"{action.kind} {world.objects[action.actor].shape}" for action in (one, two))
            if set(range(one.start, one.end)) & set(range(two.start, two.end)):
                expected |= {f"{a} during {b}", f"{b} during {a}"} & set(names)
            else:
                expected.add(f"{a} before {b}" if one.start < two.start else f"{b} before {a}")
        assert {names[number] for number in compositions.compositions(world)} == expected


def test_a_scene_without_cones_cannot_hide_the_snitch():
    with pytest.raises(ValueError, match="cone"):
        make_world(np.random.default_rng(0), WorldSpec(objects=(1, 1), slots=1), 0)


@pytest.mark.parametrize(
    ("wrong", "number"),
    [
        ({"scale": "huge"}, "huge"),
        ({"size": 31}, "31"),
        ({"size": 4000}, "4000"),
        ({"test": 0}, "0"),
        ({"seed": -1}, "-1"),
    ],
)
def test_wrong_parameters_are_named(wrong, number):
    with pytest.raises(ValueError, match=number):
        CaterSpec(**wrong)


def test_scales_have_the_published_splits_and_slots():
    assert sum(SCALES["full"].counts.values()) == 5500
    assert SCALES["full"].world.num_frames == SCALES["small"].world.num_frames == 300
    assert Object("snitch", "small", "gold", "metal").radius < Object("sphere", "small", "red", "rubber").radius
