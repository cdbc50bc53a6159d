"""Sets in published formats: their files, read by nothing of ours, say what their pixels show."""

import csv
import hashlib
import itertools
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from slowfast.apps.synthetic import __main__ as synthetic
from slowfast.apps.synthetic.formats import FORMATS, SetSpec, make_set

TRAIN, VAL = 13, 4
# What a disc that goes somewhere does, written down apart from the code: axis (x, y) and sign.
MOVES = {"right": (0, 1), "left": (0, -1), "down": (1, 1)}


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> dict[str, Path]:
    """Make a small set of every format, in a folder whose name has a space."""
    root = tmp_path_factory.mktemp("some sets")
    counts = {"ava": (3, 2)}
    for name in FORMATS:
        train, val = counts.get(name, (TRAIN, VAL))
        assert make_set(root / name, SetSpec(name, train=train, val=val, test=3 if name == "kinetics" else None))
    return {name: root / name for name in FORMATS}


def read_video(path: Path) -> tuple[np.ndarray, str, float]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
        return frames, stream.codec_context.name, float(stream.average_rate)


def read_images(paths: list[Path]) -> np.ndarray:
    return np.stack([cv2.imread(str(path))[..., ::-1] for path in paths])


def read_frame_list(path: Path) -> dict[str, list[tuple[str, list[int]]]]:
    """(path, labels) of the frames of every video, in order, the numbers in the list being as they should."""
    header, *lines = path.read_text().splitlines()
    assert header == "original_vido_id video_id frame_id path labels"
    videos = {}
    for line in lines:
        assert line.endswith('"') and line.count('"') == 2
        name, number, frame, image, labels = shlex.split(line)
        shown = videos.setdefault(name, [])
        assert (int(number), int(frame)) == (len(videos) - 1, len(shown))
        shown.append((image, [int(label) for label in labels.split(",") if label]))
    return videos


def where(mask: np.ndarray) -> np.ndarray:
    """Middle (x, y) of what a mask (H, W) holds."""
    rows, columns = np.nonzero(mask)
    return np.array([columns.mean(), rows.mean()])


def is_bright(frames: np.ndarray) -> np.ndarray:
    """(T, H, W) bool: strong colors, which nothing has but discs."""
    frames = frames.astype(int)
    return (np.ptp(frames, axis=-1) > 125) & (frames.max(axis=-1) > 180)


def crossings(frames: np.ndarray) -> list[tuple[range, str, str]]:
    """Frames, directions and colors of the discs that cross, from the pixels."""
    bright = is_bright(frames)
    shown = np.flatnonzero(bright.sum(axis=(1, 2)) >= 6)
    found = []
    for run in np.split(shown, np.flatnonzero(np.diff(shown) > 1) + 1):
        moved = where(bright[run[-1]]) - where(bright[run[0]])
        axis = int(np.abs(moved).argmax())
        (way,) = [way for way, move in MOVES.items() if move == (axis, np.sign(moved[axis]))]
        strongest = frames[run][bright[run]].argmax(axis=-1)
        found.append((range(run[0], run[-1] + 1), way, ("red", "green", "blue")[np.bincount(strongest).argmax()]))
    return found


def test_kinetics_annotations_and_videos_agree(sets):
    root = sets["kinetics"]
    names, shapes = set(), set()
    for split, count in (("train", TRAIN), ("val", VAL), ("test", 3)):
        with open(root / "annotations" / f"{split}.csv", newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert list(rows[0]) == ["label", "youtube_id", "time_start", "time_end", "split"]
        classes = (root / "classes.txt").read_text().splitlines()
        listed = [line.rsplit(" ", 1) for line in (root / f"{split}.csv").read_text().splitlines()]
        assert len(rows) == len(listed) == count
        for row, (path, label) in zip(rows, listed, strict=True):
            start, end = int(row["time_start"]), int(row["time_end"])
            assert end - start == 10 and row["split"] == split
            named = root / "videos" / split / row["label"] / f"{row['youtube_id']}_{start:06d}_{end:06d}.mp4"
            assert (Path(path), classes[int(label)]) == (named, row["label"])
            assert re.fullmatch(r"[A-Za-z0-9_-]{11}", row["youtube_id"])
            names.add(row["youtube_id"])
            frames, codec, fps = read_video(named)
            assert (codec, fps, len(frames)) == ("h264", 4, 36)
            shapes.add(frames.shape[1:3])
            assert [way for _, way, _ in crossings(frames)] == row["label"].split(" then ")
    assert len(names) == TRAIN + VAL + 3
    assert shapes == {(32, 36), (32, 40), (36, 32)}


def test_charades_actions_are_what_the_frames_show(sets):
    root = sets["charades"]
    header = "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length"
    classes = dict(line.split(" ", 1) for line in (root / "Charades_v1_classes.txt").read_text().splitlines())
    assert list(classes) == [f"c{number:03d}" for number in range(10)]
    lights = 0
    for official, split, count in (("train", "train", TRAIN), ("test", "val", VAL)):
        with open(root / f"Charades_v1_{official}.csv", newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert ",".join(rows[0]) == header
        listed = read_frame_list(root / f"{split}.csv")
        assert [row["id"] for row in rows] == list(listed) and len(rows) == count
        for row in rows:
            frames = listed[row["id"]]
            actions = [action.split(" ") for action in row["actions"].split(";")]
            shown = {classes[label]: (float(start), float(end)) for label, start, end in actions}
            assert len(frames) == 24 * float(row["length"])
            for number, (_, labels) in enumerate(frames):
                told = {name for name, (start, end) in shown.items() if start <= number / 24 <= end}
                assert {classes[f"c{label:03d}"] for label in labels} == told
            images = [root / "Charades_v1_rgb" / path for path, _ in frames]
            assert [path.name for path in images] == [f"{row['id']}-{number + 1:06d}.jpg" for number in range(72)]
            pixels = read_images(images)
            lights += check_charades_pixels(pixels, shown)
            drawn, codec, fps = read_video(root / "Charades_v1" / f"{row['id']}.mp4")
            assert (codec, fps) == ("h264", 24)
            assert np.abs(drawn.astype(int) - pixels).mean() < 12
    assert 3 <= lights <= TRAIN + VAL - 3


def check_charades_pixels(pixels: np.ndarray, shown: dict[str, tuple[float, float]]) -> bool:
    """Check the actions against the pixels; return True if the light is ever on."""
    (first, _, one), (second, _, two) = crossings(pixels)
    actions = {
        f"After a {one} disc, the first": range(first.start, second.start),
        f"After a {two} disc, before it a {one} one": range(second.start, 72),
    }
    for name, frames in actions.items():
        start, end = shown[name]
        assert [f for f in range(72) if start <= f / 24 <= end] == list(frames)
    # No 16 frames in a row touch both.
    assert second.start - first.stop >= 15
    light = shown.get("Light is on")
    assert len(shown) == (3 if light else 2)
    if light:
        on = [light[0] <= f / 24 <= light[1] for f in range(72)]
        brightness = np.median(pixels.reshape(72, -1), axis=1)
        assert brightness[on].min() > brightness[np.logical_not(on)].max() + 15
    return light is not None


def test_ssv2_templates_are_what_the_frames_show(sets):
    root = sets["ssv2"]
    labels = json.loads((root / "something-something-v2-labels.json").read_text())
    assert sorted(map(int, labels.values())) == list(range(6))
    seen, sizes = set(), {}
    for official, split, count in (("train", "train", TRAIN), ("validation", "val", VAL)):
        entries = json.loads((root / f"something-something-v2-{official}.json").read_text())
        listed = read_frame_list(root / f"{split}.csv")
        assert [entry["id"] for entry in entries] == list(listed) and len(entries) == count
        for entry in entries:
            assert entry["id"].isdigit() and entry["id"] not in seen
            seen.add(entry["id"])
            assert entry["template"].replace("[something]", "something") in labels
            (thing,) = entry["placeholders"]
            assert entry["label"] == entry["template"].replace("[something]", thing).lower()
            paths = [path for path, _ in listed[entry["id"]]]
            assert paths[9] == f"{entry['id']}/{entry['id']}_000010.jpg"
            pixels = read_images([root / "frames" / path for path in paths])
            (one, first, _), (other, second, _) = crossings(pixels)
            assert entry["template"] == f"Moving [something] {first} then {second}"
            assert len(one) == len(other) == 4
            sizes.setdefault(thing, []).append(is_bright(pixels).sum())
            video, codec, fps = read_video(root / "20bn-something-something-v2" / f"{entry['id']}.webm")
            assert (codec.removeprefix("libvpx-"), fps, len(video)) == ("vp9", 12, 36)
            assert np.abs(video.astype(int) - pixels).mean() < 12
    assert np.mean(sizes["a small disc"]) < 0.8 * np.mean(sizes["a big disc"])


def read_label_map(path: Path) -> dict[int, str]:
    items = re.findall(r'item \{\n  name: "([^"]+)"\n  id: (\d+)\n\}\n', path.read_text())
    return {int(number): name for name, number in items}


def read_boxes(path: Path) -> list[list[str]]:
    return [line.split(",") for line in path.read_text().splitlines()]


def color_at(frame: np.ndarray, box: np.ndarray) -> str:
    """Color of the disc in the middle of a box of a frame."""
    x, y = np.rint((box[:2] + box[2:]) / 2 - 0.5).astype(int)
    red, green, blue = frame[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].reshape(-1, 3).mean(axis=0)
    if red > 170:
        return "yellow" if green > 140 else "red"
    return "green" if green > blue else "blue"


def test_ava_boxes_hold_persons_who_do_what_the_actions_say(sets):
    """Motion is tracked around the key frame; the flash is looked for there and in the three seconds before, in the
    boxes.
    """
    root = sets["ava"]
    notes = root / "annotations"
    names = read_label_map(notes / "ava_action_list_v2.2_for_activitynet_2019.pbtxt")
    assert names[1] == "sway" and names[2] == "bob" and len(names) == 8 and 3 not in names
    remembered = 0
    for split, count in (("train", 3), ("val", 2)):
        listed = read_frame_list(root / "frame_lists" / f"{split}.csv")
        assert len(listed) == count and all(len(frames) == 360 for frames in listed.values())
        boxes = {}
        for video, second, *edges, action, person in read_boxes(notes / f"ava_{split}_v2.2.csv"):
            assert len(second) == 4 and 902 <= int(second) <= 910
            box, actions = boxes.setdefault((video, int(person)), {}).setdefault(int(second), ([], []))
            box[:] = edges
            actions.append(names[int(action)])
        assert {video for video, _ in boxes} == set(listed)
        for (video, _), seconds in boxes.items():
            frames = read_images([root / "frames" / path for path, _ in listed[video]])
            where_it_is = {second: np.array(box, float) * (40, 32, 40, 32) for second, (box, _) in seconds.items()}
            for second in sorted(seconds)[3:]:
                remembered += check_person(frames, where_it_is, second, seconds[second][1])
    assert remembered > 20


def check_person(frames: np.ndarray, boxes: dict[int, np.ndarray], second: int, actions: list[str]) -> bool:
    """Check the actions against the pixels; return True if one refers to an earlier flash."""
    key = (second - 900) * 30
    middle = ((boxes[second][:2] + boxes[second][2:]) / 2)[0]
    left, right = (0, 20) if middle < 20 else (20, 40)
    window = is_bright(frames[key - 10 : key + 10, :, left:right])
    middles = np.stack([where(mask) for mask in window if mask.sum() > 20])
    motion = "sway" if np.ptp(middles[:, 0]) > np.ptp(middles[:, 1]) else "bob"
    colors = {t: color_at(frames[(t - 900) * 30], boxes[t]) for t in range(second - 3, second + 1)}
    flashes = [color for color in colors.values() if color != "yellow"]
    assert actions == [motion, *([f"{motion} since a {flashes[-1]} flash"] if flashes else [])]
    return bool(flashes) and colors[second] == "yellow"


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    shared = np.prod(np.clip(sides, 0, None))
    return float(shared / (np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - shared))


def test_ava_detections_are_true_boxes_a_little_off_and_some_false_ones(tmp_path):
    """Of many videos' worth of boxes; no pixels are needed."""
    make_set(tmp_path, SetSpec("ava", train=6, val=6))
    notes = tmp_path / "annotations"
    detected = {
        "train": "ava_detection_train_boxes_and_labels_include_negative_v2.2.csv",
        "val": "ava_detection_val_boxes_and_labels.csv",
    }
    for split, name in detected.items():
        truth = {}
        for video, second, *edges, action, person in read_boxes(notes / f"ava_{split}_v2.2.csv"):
            truth.setdefault((video, second), {}).setdefault((*edges, person), []).append(action)
        overlaps, scores, found = [], [], {}
        for video, second, *edges, action, score in read_boxes(notes / "person_box_67091280_iou90" / name):
            found.setdefault((video, second, *edges, score), []).append(action)
        assert {key[:2] for key in found} == set(truth)
        for (video, second, *edges, score), actions in found.items():
            box = np.array(edges, float)
            assert (box >= 0).all() and (box <= 1).all() and (box[2:] > box[:2]).all()
            best, told = max(
                (overlap(box, np.array(key[:4], float)), told) for key, told in truth[video, second].items()
            )
            overlaps.append(best)
            scores.append(float(score))
            if best > 0.5:
                assert actions == (told if split == "train" else [""])
        true = np.array(overlaps) > 0.5
        sure = np.array(scores) >= 0.9
        persons = sum(map(len, truth.values()))
        assert 0.97 * persons <= true.sum() <= persons
        assert 0.9 <= sure[true].mean() < 1 and np.mean(overlaps, where=true) > 0.7
        assert 0 < sure[~true].mean() < 0.5 and 0.05 < np.mean(~true) < 0.35
    excluded = read_boxes(notes / "ava_val_excluded_timestamps_v2.2.csv")
    assert 1 <= len(excluded) <= 6 and all(re.fullmatch(r"09(0[2-9]|10)", second) for _, second in excluded)


def digest(root: Path) -> dict[str, str]:
    """Content of every file but those that hold the folder's own path."""
    paths = [path for path in root.rglob("*") if path.is_file() and path.name != "synthetic.json"]
    text = {path: path.read_bytes().replace(str(root).encode(), b"") for path in paths}
    return {str(path.relative_to(root)): hashlib.sha256(content).hexdigest() for path, content in text.items()}


def test_a_set_depends_on_its_parameters_alone(tmp_path):
    """Files are the same from two processes as from one, and for all videos whatever their number."""
    for name in ("charades", "kinetics"):
        for folder, spec, workers in (
            ("one", SetSpec(name, train=3, val=2), 0),
            ("two", SetSpec(name, train=3, val=2), 2),
            ("more", SetSpec(name, train=4, val=2), 0),
            ("other", SetSpec(name, train=3, val=2, seed=1), 0),
        ):
            if name == "kinetics":
                spec = SetSpec(**{**vars(spec), "test": 1})
            make_set(tmp_path / name / folder, spec, workers)
        one, two, more, other = (digest(tmp_path / name / folder) for folder in ("one", "two", "more", "other"))
        assert one == two
        moving = [file for file in one if file.endswith((".jpg", ".mp4"))]
        assert len(moving) > 5 and all(more[file] == one[file] for file in moving)
        assert not set(other.values()) & {one[file] for file in moving}


def test_names_are_never_given_twice():
    for name, seed in itertools.product(FORMATS, (0, 5)):
        spec = SetSpec(name, train=2500, val=2500, seed=seed)
        paths = [FORMATS[name].last_file(key) for key in spec.videos()]
        assert len(set(paths)) == len(paths)


def test_a_complete_set_is_kept_and_a_broken_one_made_again(tmp_path):
    spec = SetSpec("ssv2", train=2, val=1)
    root = tmp_path / "here"
    assert make_set(root, spec) and not make_set(root, spec)
    frame = sorted(root.glob("frames/*/*_000036.jpg"))[0]
    frame.unlink()
    assert make_set(root, spec) and frame.exists()
    (root / "synthetic.json").unlink()  # as an interrupted run leaves it
    assert make_set(root, spec)
    root.rename(tmp_path / "there")
    assert make_set(tmp_path / "there", spec)
    with pytest.raises(ValueError, match=r"train 2 \(asked: 3\).*another folder"):
        make_set(tmp_path / "there", SetSpec("ssv2", train=3, val=1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"format": "ucf"}, "format ucf: there are kinetics, charades, ava, ssv2"),
        ({"format": "ava", "size": 30}, "size 30"),
        ({"format": "ava", "size": 35}, "size 35.*even"),
        ({"format": "charades", "test": 4}, "test 4.*charades has train and val alone"),
        ({"format": "kinetics", "val": 0}, "val 0.*from 1 to"),
        ({"format": "ssv2", "train": 10**6}, "train 1000000.*from 1 to"),
        ({"format": "ssv2", "seed": -1}, "seed -1"),
    ],
)
def test_impossible_sets_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SetSpec(**settings)


def test_command_line(tmp_path, capsys):
    command = [
        sys.executable,
        "-m",
        "slowfast.apps.synthetic.__main__",
        "--format",
        "ava",
        "--output",
        tmp_path / "set",
    ]
    preview = tmp_path / "preview.png"
    rest = ["--train", "2", "--val", "1", "--size", "48", "--workers", "2", "--preview", preview]
    done = subprocess.run([*command, *rest], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"made 2 + 1 videos in {tmp_path / 'set'}" in done.stdout
    assert cv2.imread(str(preview)).shape == (2 * (48 + 1) * 2, 36 * (60 + 1) * 2, 3)
    arguments = ["--format", "ava", "--output", str(tmp_path / "set"), "--train", "2", "--val", "1", "--size", "48"]
    synthetic.main(arguments)
    assert "kept 2 + 1 videos" in capsys.readouterr().out
    for wrong, message in ((["--test", "1"], "error: test 1"), (["--annotations"], "error: --annotations")):
        with pytest.raises(SystemExit, match=message):
            synthetic.main([*arguments, *wrong])
