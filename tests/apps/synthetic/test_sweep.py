"""The sweep set: the rules of its events, its pixels, its files."""

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from slowfast.apps.synthetic import __main__ as synthetic
from slowfast.apps.synthetic import render as render
from slowfast.apps.synthetic.sweep import SweepSpec, make_sweep
from slowfast.config import load_config
from slowfast.datasets.build import build_loader
from slowfast.datasets.video import open as decode
from slowfast.datasets.video_dataset import read_video_list

ROOT = Path(__file__).resolve().parents[3]
SIZE = 32
SPEC = SweepSpec(size=SIZE, train=8, val=6, test=7, seed=3, annotations=True)
# What an event looks like, written down apart from the code: its moves in (x, y) a frame.
MOVES = {"right": (7, 0), "left": (-7, 0), "down": (0, 7)}
NAMES = ["right-left", "right-down", "left-right", "left-down", "down-right", "down-left"]


@pytest.fixture(scope="module")
def many_videos() -> list:
    """(class name, first event, second event) of 1,800 videos of several seeds and splits."""
    videos = []
    for seed, split, index in itertools.product(range(6), ("train", "val", "test"), range(100)):
        rng = render.video_generator(seed, split, index)
        label = render.label_of(index)
        videos.append((render.CLASS_NAMES[label], *render.sample_events(rng, label, SIZE)))
    return videos


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Make a small annotated set, in a folder whose name has a space."""
    root = tmp_path_factory.mktemp("sweep set")
    assert make_sweep(root, SPEC)
    return root


def is_yellow(frames: np.ndarray) -> np.ndarray:
    """(T, H, W) bool: pixels with much red and green and little blue; nothing else in a video looks so."""
    red, green, blue = np.moveaxis(frames.astype(int), -1, 0)
    return (red > 170) & (green > 150) & (blue < 120) & (red - blue > 100)


def test_times_keep_the_rules(many_videos):
    pairs = set()
    for _, first, second in many_videos:
        shown = sorted([*first.frames, *second.frames])
        assert len(set(shown)) == 8
        assert min(shown) >= 4 and max(shown) <= 35 - 4
        assert second.start - first.start >= 12
        assert len([f for f in range(36) if max(first.frames) < f < min(second.frames)]) >= 8
        for begin in range(36 - 8 + 1):
            window = set(range(begin, begin + 8))
            assert not (window & set(first.frames) and window & set(second.frames))
        pairs.add((first.start, second.start))
    every = {(a, b) for a in range(36) for b in range(36) if a >= 4 and b - a >= 12 and b + 3 <= 31}
    assert pairs == every


def test_discs_move_as_their_class_says(many_videos):
    for name, first, second in many_videos:
        for event, direction in zip((first, second), name.split("-"), strict=True):
            assert event.centers.shape == (4, 2)
            np.testing.assert_allclose(np.diff(event.centers, axis=0), [MOVES[direction]] * 3)
            assert 4 <= event.radius <= 5.5
            assert event.centers.min() >= 0 and event.centers.max() <= SIZE - 1


def test_classes_are_all_ordered_pairs():
    assert list(render.CLASS_NAMES) == NAMES


def test_one_frame_tells_no_direction(many_videos):
    """Places of discs: for each direction and axis nearly uniform over the same interval."""
    places = {direction: [] for direction in MOVES}
    for name, first, second in many_videos:
        for event, direction in zip((first, second), name.split("-"), strict=True):
            places[direction].append(event.centers)
    edges = np.linspace(1.5, 29.5, 8)
    for direction, centers in places.items():
        for axis in (0, 1):
            counts, _ = np.histogram(np.concatenate(centers)[:, axis], edges)
            assert counts.sum() == 4 * len(centers), (direction, axis)
            assert np.ptp(counts) < 0.3 * counts.mean(), (direction, axis, counts)


def test_splits_are_balanced_and_differ():
    labels = [render.label_of(index) for index in range(240)]
    assert np.bincount(labels).tolist() == [40] * 6
    keys = itertools.product((0, 1), ("train", "val", "test"), range(6))
    pixels = {render.render_video(*key, SIZE)[0].tobytes() for key in keys}
    assert len(pixels) == 2 * 3 * 6


def test_pixels_depend_on_the_seed_alone():
    first, _ = render.render_video(5, "val", 7, 48)
    second, _ = render.render_video(5, "val", 7, 48)
    assert first.shape == (36, 48, 48, 3) and first.dtype == np.uint8
    np.testing.assert_array_equal(first, second)


def test_yellow_shows_in_frames_of_events_and_only_there():
    for index in range(24):
        frames, events = render.render_video(1, "train", index, SIZE)
        area = is_yellow(frames).sum(axis=(1, 2))
        shown = [frame for event in events for frame in event.frames]
        assert area[shown].min() >= 12
        assert np.delete(area, shown).max() <= 2


def test_background_and_noise_are_as_described():
    """Away from discs: steps between frames are as large as noise of 10 makes them; means lie in the grid's range."""
    deviations, means = [], []
    for index in range(12):
        frames, _ = render.render_video(2, "train", index, SIZE)
        frames = frames[:4].astype(float)
        # A mixed second difference over x and y removes whatever is smooth; noise remains, four times its variance.
        residue = frames[:, 1:, 1:] - frames[:, :-1, 1:] - frames[:, 1:, :-1] + frames[:, :-1, :-1]
        deviations.append(np.median(np.abs(residue)) / 0.6745 / 2)
        means.append(frames.mean())
    assert 9 < np.median(deviations) < 11
    assert 60 < min(means) and max(means) < 140


def test_videos_decode_to_what_was_drawn(sweep):
    for split, index in (("train", 0), ("val", 5), ("test", 6)):
        drawn, events = render.render_video(SPEC.seed, split, index, SIZE)
        with decode.open(str(sweep / "videos" / split / f"{split}_{index:06d}.mp4")) as video:
            assert (video.num_frames, video.fps) == (36, 4.0)
            decoded = video.frames(range(36))
        assert np.abs(decoded.astype(int) - drawn).mean() < 10
        for event in events:
            for frame, center in zip(event.frames, event.centers, strict=True):
                x, y = np.clip(np.rint(center).astype(int), 1, SIZE - 2)
                color = decoded[frame, y - 1 : y + 2, x - 1 : x + 2].reshape(-1, 3).mean(axis=0)
                assert np.abs(color - (240, 220, 40)).max() < 30


def test_videos_are_h264(sweep):
    with av.open(str(sweep / "videos" / "val" / "val_000000.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.frames) == ("h264", 36)
        assert (stream.width, stream.height, stream.codec_context.pix_fmt) == (SIZE, SIZE, "yuv420p")


def test_lists_are_in_the_kinetics_format(sweep):
    for split, count in (("train", 8), ("val", 6), ("test", 7)):
        paths, labels = read_video_list(str(sweep / f"{split}.csv"), num_classes=6)
        assert len(set(paths)) == count
        assert labels == [index % 6 for index in range(count)]
        for path in paths:
            with av.open(path) as container:
                assert container.streams.video[0].frames == 36
    assert (sweep / "classes.txt").read_text().split() == NAMES


def test_frame_labels_say_what_frames_show(sweep):
    header, *lines = (sweep / "annotations" / "test_frames.csv").read_text().splitlines()
    assert header == "original_vido_id video_id frame_id path labels"
    assert len(lines) == 7 * 36
    for line in lines:
        name, video, frame, path, labels = line.split(" ")
        assert labels[0] == labels[-1] == '"'
        assert path == f"test/{name}/{name}-{int(frame) + 1:06d}.jpg"
        directions = [render.DIRECTIONS[int(label)] for label in labels.strip('"').split(",") if label]
        _, events = render.render_video(SPEC.seed, "test", int(video), SIZE)
        expected = [event.centers[1] - event.centers[0] for event in events if int(frame) in event.frames]
        np.testing.assert_allclose([MOVES[direction] for direction in directions], expected)


def test_frames_on_disk_show_the_disc_they_are_labeled_with(sweep):
    _, *lines = (sweep / "annotations" / "val_frames.csv").read_text().splitlines()
    for line in lines[::5]:
        *_, path, labels = line.split(" ")
        with av.open(str(sweep / "frames" / path)) as image:
            pixels = next(image.decode(video=0)).to_ndarray(format="rgb24")
        assert (is_yellow(pixels).sum() >= 12) == (labels != '""')


def test_boxes_hold_the_yellow_disc(sweep):
    boxes = [line.split(",") for line in (sweep / "annotations" / "train_boxes.csv").read_text().splitlines()]
    # Key frames are four frames apart and events last four: each of the two events is met once.
    assert [(box[0], box[7]) for box in boxes] == [(f"train_{i:06d}", str(e)) for i in range(8) for e in range(2)]
    for name, second, *box, action, entity in boxes:
        index, frame = int(name.split("_")[1]), (int(second) - 900) * 4
        frames, events = render.render_video(SPEC.seed, "train", index, SIZE)
        rows, columns = np.nonzero(is_yellow(frames)[frame])
        x1, y1, x2, y2 = (float(edge) * SIZE for edge in box)
        assert x1 <= columns.mean() + 0.5 <= x2 and y1 <= rows.mean() + 0.5 <= y2
        assert abs(columns.min() - x1) < 2 and abs(columns.max() + 1 - x2) < 2
        assert abs(rows.min() - y1) < 2 and abs(rows.max() + 1 - y2) < 2
        assert int(action) == events[int(entity)].direction + 1


def test_a_complete_set_is_kept_and_a_broken_one_made_again(sweep, tmp_path):
    spec = SweepSpec(train=1, val=1, test=1)
    video = tmp_path / "videos" / "val" / "val_000000.mp4"
    assert make_sweep(tmp_path, spec)
    written = video.stat().st_mtime_ns
    assert not make_sweep(tmp_path, spec)
    assert video.stat().st_mtime_ns == written
    video.unlink()
    assert make_sweep(tmp_path, spec) and video.exists()
    (tmp_path / "sweep.json").unlink()  # as an interrupted run leaves it
    assert make_sweep(tmp_path, spec)
    assert not make_sweep(sweep, SweepSpec(**{**vars(SPEC), "annotations": False}))


def test_a_moved_set_is_made_again(tmp_path):
    """Lists name absolute paths, which no longer hold."""
    spec = SweepSpec(train=1, val=1, test=1)
    make_sweep(tmp_path / "here", spec)
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert make_sweep(tmp_path / "there", spec)
    assert str(tmp_path / "there") in (tmp_path / "there" / "val.csv").read_text()


def test_another_set_in_the_folder_is_refused(sweep):
    with pytest.raises(ValueError, match=r"seed 3 \(asked: 4\).*another folder"):
        make_sweep(sweep, SweepSpec(**{**vars(SPEC), "seed": 4}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"size": 30}, "size 30"), ({"size": 33}, "size 33.*even"), ({"val": 0}, "val 0"), ({"seed": -1}, "seed -1")],
)
def test_impossible_sets_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SweepSpec(**settings)


def test_command_line_with_processes_equals_one_process(tmp_path):
    arguments = ["--train", "3", "--val", "2", "--test", "1", "--seed", "9"]
    command = [sys.executable, "-m", "slowfast.apps.synthetic", "--output", tmp_path / "two", "--workers", "2"]
    preview = tmp_path / "preview.png"
    done = subprocess.run([*command, *arguments, "--preview", preview], capture_output=True, text=True, check=True)
    assert "made 3 + 2 + 1 videos" in done.stdout
    synthetic.main(["--output", str(tmp_path / "one"), "--workers", "0", *arguments])
    for split, name in (("train", "train_000002"), ("test", "test_000000")):
        readers = [decode.open(str(tmp_path / run / "videos" / split / f"{name}.mp4")) for run in ("one", "two")]
        np.testing.assert_array_equal(readers[0].frames(range(36)), readers[1].frames(range(36)))
    with av.open(str(preview)) as image:
        stream = image.streams.video[0]
        assert (stream.width, stream.height) == (36 * (SIZE + 1) * 2, 6 * (SIZE + 1) * 2)
    assert json.loads((tmp_path / "two" / "sweep.json").read_text())["train"] == 3


def test_command_line_explains_mistakes(tmp_path):
    with pytest.raises(SystemExit, match="error: size 31"):
        synthetic.main(["--output", str(tmp_path), "--size", "31"])


def test_batches_of_the_set_reach_the_reader(sweep):
    """Read the set as Kinetics: whole videos, in the order of the list."""
    overrides = ["DATA.PATH_TO_DATA_DIR", str(sweep), "DATA.NUM_FRAMES", 36, "TEST.NUM_ENSEMBLE_VIEWS", 1]
    cfg = load_config(str(ROOT / "configs" / "Synthetic" / "SWEEP_SLOW_8x1.yaml"), overrides)
    batch = next(iter(build_loader(cfg, "test")))
    assert batch.inputs[0].shape == (7, 3, 36, SIZE, SIZE)
    assert batch.labels.tolist() == [index % 6 for index in range(7)]
    drawn, _ = render.render_video(SPEC.seed, "test", 4, SIZE)
    pixels = batch.inputs[0][4].permute(1, 2, 3, 0).numpy() * 0.225 + 0.45
    assert np.abs(pixels * 255 - drawn).mean() < 10
