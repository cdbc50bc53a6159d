"""The set after CATER: its pictures show what its ground truth says, and its files are read by our data sets."""

import csv
import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest

from slowfast.apps.synthetic import __main__ as synthetic
from slowfast.apps.synthetic.cater import renderer as drawing
from slowfast.apps.synthetic.cater.dataset import CaterSpec, make_cater
from slowfast.apps.synthetic.cater.renderer import Renderer
from slowfast.apps.synthetic.cater.scene import Scene

pytestmark = pytest.mark.usefixtures("can_draw_scenes")

SPEC = CaterSpec("tiny", train=3, val=2, test=2, seed=5)
ARGUMENTS = ["--format", "cater", "--scale", "tiny", "--train", "3", "--val", "2", "--test", "2", "--seed", "5"]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Make a small set in this process, in a folder whose name has a space."""
    root = tmp_path_factory.mktemp("cater set")
    assert make_cater(root, SPEC)
    return root


@pytest.fixture(scope="module")
def moving() -> Scene:
    """Make a scene of ten objects or fewer before a moving camera."""
    return CaterSpec("full", moving=True).scene("val", 4)


def read_video(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate) == ("h264", 24)
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def is_gold(frames: np.ndarray) -> np.ndarray:
    """(..., H, W) bool: pixels of the snitch's color; brown objects are darker."""
    red, green, blue = np.moveaxis(frames.astype(int), -1, 0)
    return (red > 170) & (green > 95) & (blue < 110) & (red - blue > 90)


def digests(root: Path) -> dict[str, str]:
    """Return the digest of every file below a folder but for those that hold its name."""
    named = {"train.csv", "val.csv", "test.csv", "cater.json"}
    paths = [path for path in root.rglob("*") if path.is_file() and str(path.relative_to(root)) not in named]
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_gold_shows_where_the_snitch_is_and_only_when_it_is_seen(made):
    shown = hidden = 0
    for path in sorted((made / "videos").iterdir()):
        frames = read_video(path)
        truth = np.load(made / "truth" / f"{path.stem}.npz")
        assert frames.shape == (120, 64, 64, 3)
        gold = is_gold(frames)
        area = gold.sum(axis=(1, 2))
        least = area[truth["seen"] > 0.95].min()
        assert least >= 8
        assert area[truth["inside"][:, 0] >= 0].max(initial=0) < least / 2  # highlights of other objects
        scene = SPEC.scene(path.stem.split("_")[0], int(path.stem.split("_")[1]))
        where = scene.camera.project(truth["positions"][:, :1] + (0, 0, 0.38))[:, 0] * 64 - 0.5
        for frame in np.flatnonzero(truth["seen"] > 0.95):
            y, x = np.median(np.argwhere(gold[frame]), axis=0)
            assert np.hypot(x - where[frame, 0], y - where[frame, 1]) < 2
        shown, hidden = shown + (truth["seen"] > 0.95).sum(), hidden + (truth["inside"][:, 0] >= 0).sum()
    assert shown > 100 and hidden > 100


def test_segmentation_agrees_with_the_geometry_of_visibility(moving):
    """The share of the snitch that is seen, by rays, beside its pixels with and without the other objects."""
    renderer = Renderer(160)
    world = moving.world
    alone = Scene(type(world)(world.objects[:1], [], world.positions, world.angles, world.inside[:, :1]), *[None] * 2)
    partly = 0
    for frame in range(0, 300, 5):
        pixels = (renderer.segment(world, moving.camera, frame) == 0).sum()
        full = (renderer.segment(alone.world, moving.camera, frame) == 0).sum()
        assert moving.seen[frame] == pytest.approx(pixels / full, abs=0.15), frame
        partly += 0.1 < moving.seen[frame] < 0.9
    renderer.close()
    assert partly and moving.seen.min() == 0 and moving.seen.max() == 1


def test_two_renderers_draw_in_turn():
    scene = SPEC.scene("val", 1)
    one, two = Renderer(64), Renderer(96)
    first = one.draw(scene.world, scene.camera)
    assert two.draw(scene.world, scene.camera).shape[1:] == (96, 96, 3)
    two.close()
    np.testing.assert_array_equal(one.draw(scene.world, scene.camera), first)
    assert first.std() > 10
    one.close()


def test_every_object_is_drawn_where_it_is(moving):
    renderer = Renderer(160)
    picture = renderer.segment(moving.world, moving.camera, 0)
    renderer.close()
    for index, thing in enumerate(moving.world.objects):
        place = moving.world.positions[0, index] + (0, 0, thing.height / 4)
        x, y = moving.camera.project(np.broadcast_to(place, (300, 1, 3)))[0, 0] * len(picture)
        rows, columns = np.nonzero(picture == index)
        if len(rows) > 100:  # not hidden
            assert rows.min() <= y <= rows.max() and columns.min() <= x <= columns.max()


def test_two_runs_give_the_same_bytes_and_a_killed_run_continues(made, tmp_path):
    command = [sys.executable, "-m", "slowfast.apps.synthetic", *ARGUMENTS, "--workers", "1", "--output", tmp_path]
    first = tmp_path / "truth" / "train_000001.npz"
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE) as run:
        deadline = time.monotonic() + 120
        while not first.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        run.send_signal(signal.SIGKILL)
        run.stdout.read()  # ends when the worker, which shares it, has ended too
    assert first.exists() and not (tmp_path / "cater.json").exists()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "truth").iterdir()}
    with pytest.raises(ValueError, match="seed 5"):
        make_cater(tmp_path, CaterSpec("tiny", train=3, val=2, test=2, seed=6))
    assert make_cater(tmp_path, SPEC)
    for path, written in before.items():
        assert path.stat().st_mtime_ns == written
        assert (tmp_path / "videos" / f"{path.stem}.mp4").stat().st_mtime_ns < written
    assert digests(tmp_path) == digests(made)
    assert not make_cater(tmp_path, SPEC)
    (tmp_path / "videos" / "val_000001.mp4").unlink()
    assert make_cater(tmp_path, SPEC)
    assert digests(tmp_path) == digests(made)


def test_lists_and_facts_follow_from_the_ground_truth(made):
    for split, count in (("train", 3), ("val", 2), ("test", 2)):
        with open(made / f"{split}_facts.csv", newline="") as stream:
            facts = list(csv.DictReader(stream))
        assert len(facts) == count
        for line, row in zip((made / f"{split}.csv").read_text().splitlines(), facts, strict=True):
            path, label = line.rsplit(" ", 1)
            assert Path(path) == made / "videos" / f"{row['name']}.mp4" and Path(path).exists()
            truth = np.load(made / "truth" / f"{row['name']}.npz")
            x, y = truth["positions"][-1, 0, :2]
            assert int(label) == int(row["label"]) == 6 * int(np.floor(3 - y)) + int(np.floor(x + 3))
            last = int(row["last_visible_frame"])
            assert truth["visible"][last] and not truth["visible"][last + 1 :].any()
            assert int(row["last_visible_cell"]) == truth["cells"][last]
            open_frames = np.flatnonzero(truth["inside"][:, 0] < 0)
            assert int(row["covered_frame"]) == (-1 if open_frames[-1] == 119 else open_frames[-1] + 1)
            assert int(row["objects"]) == len(json.loads(str(truth["objects"]))) == truth["positions"].shape[1]
    names = (made / "classes.txt").read_text().splitlines()
    assert names[0] == "row 1 column 1" and names[35] == "row 6 column 6" and len(names) == 36


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "folder", "settings"),
    [
        ("KINETICS_SLOW_8x1", ".", ("MODEL.NUM_CLASSES", 36)),
        ("CHARADES_SLOW_8x2", "compositions", ("MODEL.NUM_CLASSES", 301, "DATA.PATH_PREFIX", "videos")),
        ("CHARADES_SLOW_8x2", "compositions/test", ("MODEL.NUM_CLASSES", 301, "DATA.PATH_PREFIX", "videos")),
    ],
)
def test_check_data_passes_both_tasks(run_tool, made, tmp_path, config, folder, settings):
    settings = [made / "videos" if value == "videos" else value for value in settings]
    command = ("--cfg", f"configs/Synthetic/{config}.yaml", "DATA.PATH_TO_DATA_DIR", made / folder, *settings)
    status, output = run_tool("check_data", "--workers", 0, *command, "OUTPUT_DIR", tmp_path)
    assert status == 0 and output.splitlines()[-1] == "passed", output


def test_the_preview_shows_a_video_in_each_row(tmp_path):
    preview = tmp_path / "preview.png"
    synthetic.main([*ARGUMENTS, "--output", str(tmp_path / "set"), "--workers", "0", "--preview", str(preview)])
    with av.open(str(preview)) as image:
        stream = image.streams.video[0]
        assert (stream.width, stream.height) == (12 * (64 + 1) * 2, 3 * (64 + 1) * 2)


@pytest.mark.parametrize(("library", "message"), [("none such", "none such"), ("osmesa", "libosmesa6")])
def test_without_a_library_to_draw_there_is_one_line_and_no_folder(library, message, monkeypatch, tmp_path):
    monkeypatch.setenv("MUJOCO_GL", library)
    # What PyOpenGL leaves of a library that it does not find: a platform without its functions.
    monkeypatch.setattr(drawing.importlib, "import_module", lambda name: None)
    with pytest.raises(SystemExit, match=message) as stopped:
        synthetic.main([*ARGUMENTS, "--output", str(tmp_path / "set")])
    assert len(str(stopped.value).splitlines()) == 1
    assert not (tmp_path / "set").exists()


def test_without_mujoco_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(SystemExit, match="pip install"):
        synthetic.main([*ARGUMENTS, "--output", str(tmp_path / "set")])
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "cater", "--annotations"], "--annotations"),
        (["--format", "kinetics", "--scale", "tiny"], "cater"),
        (["--moving-camera"], "cater"),
    ],
)
def test_options_of_other_sets_are_refused(arguments, message, tmp_path):
    with pytest.raises(SystemExit, match=message):
        synthetic.main([*arguments, "--output", str(tmp_path / "set")])


def test_a_moved_set_is_made_again(made, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(made, moved)
    assert make_cater(moved, SPEC)
    assert str(moved) in (moved / "train.csv").read_text()


def test_a_frame_in_which_nothing_moves_is_not_drawn_again(monkeypatch):
    calls = []
    render = Renderer._render
    monkeypatch.setattr(drawing.Renderer, "_render", lambda self: calls.append(1) or render(self))
    scene = SPEC.scene("train", 0)
    renderer = Renderer(64)
    frames = renderer.draw(scene.world, scene.camera)
    renderer.close()
    still = [not np.diff(frames[i : i + 2], axis=0).any() for i in range(len(frames) - 1)]
    assert len(calls) <= len(frames) - sum(still) + 2 and sum(still) > 5
