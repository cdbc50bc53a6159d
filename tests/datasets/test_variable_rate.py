"""A video of a variable frame rate: labels and clips go by time, alike for the file and its extracted frames.

The phone's video has 30 frames a second, and from second 1 on, in the dark, 8. Frame n is of gray 20 + 4 n.
"""

from fractions import Fraction

import numpy as np
import pytest
from torch import Generator

from slowfast.apps.features.extract import FeatureOptions, extract
from slowfast.apps.features.files import FeatureFolder
from slowfast.apps.prepare.frames import prepare_frames, with_overrides
from slowfast.datasets import build_dataset
from slowfast.datasets.ava.footage import Footage
from slowfast.datasets.clips.clip_maker import ClipMaker
from slowfast.datasets.clips.settings import ClipSettings
from slowfast.datasets.clips.streaming import ClipWindows, StepWindows, StreamingDataset
from slowfast.datasets.clips.temporal_sampling import SpanSampling
from slowfast.datasets.video import open as decode
from slowfast.datasets.video.find import VideoOpener

TIMES = np.array([n / 30 for n in range(30)] + [1 + n / 8 for n in range(24)])
LONGEST = 0.125  # seconds of a frame
# Starts in the dark at a frame, ends between two.
ACTION = (1.5, 3.1)
FORMS = ("video", "cached", "frames", "lists")
CHARADES = f"""id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length
PHONE,S,R,5,5,Yes,x,x,x,c000 {ACTION[0]:.2f} {ACTION[1]:.2f};c001 0.50 0.75,4.0
"""


@pytest.fixture(scope="module")
def phone(tmp_path_factory, encode):
    """A folder of the video, of Charades' annotations of it, and of its frames by `prepare_frames` at three rates."""
    root = tmp_path_factory.mktemp("phone")
    (root / "videos").mkdir()
    pictures = np.broadcast_to(20 + 4 * np.arange(54, dtype=np.uint8)[:, None, None, None], (54, 24, 32, 3))
    stamps = {"pts": np.rint(TIMES * 1000).astype(int).tolist(), "time_base": Fraction(1, 1000)}
    encode(root / "videos" / "PHONE.mp4", np.ascontiguousarray(pictures), options={"crf": "1"}, **stamps)
    for name in ("train", "test"):
        (root / f"Charades_v1_{name}.csv").write_text(CHARADES)
    annotations = [str(root / f"Charades_v1_{name}.csv") for name in ("train", "test")]
    for fmt, files, fps in (("charades", annotations, 24.0), ("ava", [], 30.0), ("ava", [], 10.0)):
        options = with_overrides(fmt, fps=fps, start=0.0, end=float("inf"))
        where = [str(root / f"{kind}{fps:g}") for kind in ("frames", "lists")]
        report = prepare_frames(fmt, options, files, str(root / "videos"), *where, 0)
        assert report.images == {"PHONE": round(4 * fps)}
    return root


def gray_to_frame(pixels):
    """Number of each frame (T, H, W, 3) by its gray."""
    return np.rint((np.asarray(pixels, float).mean(axis=(1, 2, 3)) - 20) / 4).astype(int).tolist()


def shown(clip):
    """Number of each frame of a normalized clip (3, T, H, W)."""
    return gray_to_frame((clip * 0.225 + 0.45).permute(1, 2, 3, 0) * 255)


@pytest.fixture
def charades(phone, dataset_cfg):
    """`charades(split, form)`: the data set over the file, decoded again or once, its frames, or lists of these."""

    def build(split, form):
        folders = {"frames": (phone, "frames24"), "lists": (phone / "lists24", "frames24")}
        data, prefix = folders.get(form, (phone, "videos"))
        settings = {
            "TRAIN.DATASET": "charades", "TEST.DATASET": "charades", "DATA.PATH_TO_DATA_DIR": str(data),
            "DATA.PATH_PREFIX": str(phone / prefix), "MODEL.NUM_CLASSES": 2, "DATA.MULTI_LABEL": True,
            "MODEL.LOSS_FUNC": "bce_logit", "MODEL.HEAD_ACT": "sigmoid", "DATA.TRAIN_JITTER_SCALES": [24, 24],
            "DATA.TRAIN_CROP_SIZE": 24, "DATA.TEST_CROP_SIZE": 24, "DATA.REVERSE_INPUT_CHANNEL": False,
            "DATA.CACHE_VIDEOS": form == "cached",
        }  # fmt: skip
        return build_dataset(dataset_cfg(settings), split)

    return build


def test_charades_clips_and_labels_are_those_of_the_extracted_frames(charades):
    forms = [charades("train", form) for form in FORMS]
    lengths = []
    for epoch in range(40):
        samples = [data[0, epoch] for data in forms]
        frames = [shown(sample.inputs[0]) for sample in samples]
        assert all(other == frames[0] for other in frames)
        assert all(sample.label.tolist() == samples[0].label.tolist() for sample in samples)
        lengths.append(TIMES[frames[0][-1]] - TIMES[frames[0][0]])
        # The label by the time of each frame from the first to the last.
        between = TIMES[frames[0][0] : frames[0][-1] + 1]
        assert samples[0].label[0] == any(ACTION[0] <= time <= ACTION[1] for time in between)
        own = samples[0].frame_labels[::2, 0].tolist()
        assert own == [ACTION[0] <= TIMES[frame] <= ACTION[1] for frame in frames[0]]
    # 4 frames, 5 apart at 24 a second.
    assert all(abs(length - 15 / 24) <= LONGEST for length in lengths)
    for split in ("val", "test"):
        samples = [charades(split, form)[0] for form in FORMS]
        assert len({tuple(shown(sample.inputs[0])) for sample in samples}) == 1
        assert all(sample.label.tolist() == [1, 1] for sample in samples)


@pytest.fixture
def settings(dataset_cfg):
    """`settings(split, *overrides)`: clips of 4 frames, 5 apart at 30 a second."""
    sizes = {"DATA.TRAIN_JITTER_SCALES": [24, 24], "DATA.TRAIN_CROP_SIZE": 24, "DATA.TEST_CROP_SIZE": 24}
    sizes |= {"TEST.NUM_ENSEMBLE_VIEWS": 3, "DATA.REVERSE_INPUT_CHANNEL": False}
    return lambda split, *more: ClipSettings.from_config(dataset_cfg(sizes, *more), split)


def clips_of(maker, path, split):
    """Frames of all clips of a split, ten of training."""
    if split == "train":
        return [maker.training_clips(path, Generator().manual_seed(seed))[0] for seed in range(10)]
    return [maker.center_clip(path)] if split == "val" else [maker.view_clip(path, view) for view in range(3)]


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("offset", [False, True])
def test_clips_span_the_seconds_of_a_constant_rate(phone, settings, split, offset):
    """Clips over a span of time, as of Kinetics, are those of the frames extracted at DATA.TARGET_FPS."""
    s = settings(split, "DATA.USE_OFFSET_SAMPLING", offset, "TEST.NUM_SPATIAL_CROPS", 1)
    maker = ClipMaker(s, VideoOpener(decode.open, 30.0, 1), SpanSampling())
    of_file = clips_of(maker, str(phone / "videos" / "PHONE.mp4"), split)
    of_frames = clips_of(maker, str(phone / "frames30" / "PHONE"), split)
    assert [shown(clip.inputs[0]) for clip in of_file] == [clip.frames for clip in of_file]
    assert [clip.frames for clip in of_file] == [shown(clip.inputs[0]) for clip in of_frames]
    for clip in of_file:
        # 20 frames of 1/30 s, from the first to the last.
        assert abs(TIMES[clip.frames[-1]] - TIMES[clip.frames[0]] - 19 / 30) <= LONGEST
        np.testing.assert_allclose(clip.timeline.times, TIMES, atol=1e-3)


def windows_of_steps(num_frames):
    """Steps of 4 sampled frames."""
    return [[list(range(first, first + 4))] for first in range(0, num_frames, 4)]


@pytest.mark.parametrize("kind", ["clips", "steps"])
def test_windows_of_the_whole_video_are_even_in_time(phone, settings, kind):
    s = settings("test", "TEST.NUM_SPATIAL_CROPS", 1)
    windows = ClipWindows(s) if kind == "clips" else StepWindows(s, windows_of_steps)
    opener = VideoOpener(decode.open, 30.0, 1)
    paths = [str(phone / "videos" / "PHONE.mp4"), str(phone / "frames30" / "PHONE")]
    maker = ClipMaker(s, opener, SpanSampling())
    chunks = list(StreamingDataset(paths, [0, 1], opener, windows, maker, 100))
    of_file, of_frames = chunks
    assert [shown(clip) for clip in of_file.inputs[0]] == [shown(clip) for clip in of_frames.inputs[0]]
    assert [list(pair) for pair in of_file.frames] == [[shown(c)[0], shown(c)[-1]] for c in of_file.inputs[0]]
    ends = np.append(TIMES, len(TIMES) / of_file.fps)
    expected = [[TIMES[first], ends[last + 1]] for first, last in of_file.frames]
    np.testing.assert_allclose(of_file.times, expected, atol=1e-3)
    # The same seconds, but for the frame that is on screen.
    assert np.abs(np.array(of_file.times) - of_frames.times).max() <= LONGEST
    starts = np.array(of_file.times)[:-1, 0]
    distance = 20 / 30 if kind == "clips" else 4 * 19 / 3 / 30
    assert np.abs(starts - distance * np.arange(len(starts))).max() <= LONGEST


def test_features_have_the_seconds_of_their_windows(phone, tiny_cfg, saved_weights, tmp_path):
    cfg, _ = saved_weights(tiny_cfg)
    video = str(phone / "videos" / "PHONE.mp4")
    extract(cfg, FeatureOptions(str(tmp_path), videos=(video,)))
    found = FeatureFolder(str(tmp_path)).read(video)
    ends = np.append(TIMES, len(TIMES) / found.fps)
    np.testing.assert_allclose(found.times, [[TIMES[a], ends[b + 1]] for a, b in found.frames], atol=1e-3)
    assert found.times[0, 0] == 0 and found.times[-1, 1] == pytest.approx(4.0, abs=LONGEST)


def test_the_key_frame_of_a_second_is_on_screen_at_that_second(phone, dataset_cfg):
    """AVA's frames of a video file are the images extracted at AVA.FPS."""
    cfg = dataset_cfg({"AVA.FRAME_LIST_DIR": "", "AVA.FRAME_DIR": str(phone / "videos"), "AVA.FPS": 10.0})
    footage = Footage.from_config(cfg, "train", ["PHONE"])
    assert footage.lengths == {"PHONE": 40}
    with (
        footage.open_video("PHONE") as video,
        VideoOpener(decode.open, 10.0, 1)(str(phone / "frames10/PHONE")) as images,
    ):
        assert (video.num_frames, video.fps) == (images.num_frames, 10.0)
        frames = gray_to_frame(video.frames(range(40)))
        assert frames == gray_to_frame(images.frames(range(40)))
        # Within half an image.
        assert all(abs(TIMES[frames[10 * second]] - second) <= 0.05 for second in range(4))
        with pytest.raises(IndexError):
            video.frames([40])
