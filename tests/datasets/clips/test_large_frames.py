"""Clips of large frames: each frame is resized as it is decoded, so that memory does not grow with the clip."""

import tracemalloc

import cv2
import numpy as np
import pytest
import torch

from slowfast.datasets.clips.clip_maker import ClipMaker
from slowfast.datasets.clips.settings import ClipSettings
from slowfast.datasets.clips.temporal_sampling import SpanSampling
from slowfast.datasets.video import open as decode
from slowfast.datasets.video.frame_folder import FrameFolder
from slowfast.datasets.video.reader import VideoError

CLIP = ["DATA.NUM_FRAMES", 16, "DATA.SAMPLING_RATE", 1]
BOXES = [np.array([[0.1, 0.2, 0.6, 0.9]])]
MAKE = {
    "train": lambda clips, path: clips.training_clips(path, torch.Generator().manual_seed(0)),
    "train, boxes": lambda clips, path: clips.training_clip_with_boxes(path, range(16), BOXES, torch.Generator()),
    "val": lambda clips, path: clips.center_clip(path),
    "val, boxes": lambda clips, path: clips.evaluation_clip_with_boxes(path, range(16), BOXES),
    "test": lambda clips, path: clips.view_clip(path, 0),
}


@pytest.fixture(scope="module")
def large(tmp_path_factory, encode, pictures):
    return encode(tmp_path_factory.mktemp("large") / "a.mp4", pictures(20, 240, 320))


@pytest.fixture
def maker(tiny_cfg):
    def build(split, open_video, *settings):
        clip_settings = ClipSettings.from_config(tiny_cfg(*CLIP, *settings), split)
        return ClipMaker(clip_settings, open_video, SpanSampling())

    return build


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("relative", [[], [0.5, 1.0]], ids=["scales", "areas"])
def test_a_clip_takes_the_memory_of_a_few_frames(kind, relative, large, maker):
    """NumPy allocates less than 5 of 16 frames of 320 x 240, including the clip of 32 x 32.

    The least of three is taken, since threads that other tests left behind allocate too.
    """
    clips = maker(kind.split(",")[0], decode.open, "DATA.TRAIN_JITTER_SCALES_RELATIVE", relative)
    with decode.open(str(large)) as video:
        frame = video.frames([0]).nbytes
    peaks = []
    for _ in range(3):
        tracemalloc.start()
        MAKE[kind](clips, str(large))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert min(peaks) < 5 * frame


class Whole(FrameFolder):
    """A video whose frames are all decoded before the first is fitted."""

    def fitted(self, indices, fit):
        return fit(self.frames(indices))


@pytest.mark.parametrize("kind", MAKE)
def test_the_clip_is_that_of_frames_resized_together(kind, tmp_path, maker, pictures):
    paths = [tmp_path / f"{number}.png" for number in range(20)]
    for path, picture in zip(paths, pictures(20, 48, 64), strict=True):
        cv2.imwrite(str(path), picture)
    made = [
        MAKE[kind](maker(kind.split(",")[0], lambda path, form=form: form(paths, 30.0)), "a")
        for form in (FrameFolder, Whole)
    ]
    one, other = (clip[0] if isinstance(clip, list) else clip for clip in made)
    assert torch.equal(one.inputs[0], other.inputs[0])
    assert [box.tolist() for box in one.boxes] == [box.tolist() for box in other.boxes]


@pytest.mark.parametrize("kind", ["video", "images"])
def test_an_error_of_fitting_is_no_fault_of_the_file(kind, large, tmp_path):
    """Such as a crop that does not fit; a VideoError would count a good file as unreadable."""
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((8, 8, 3), np.uint8))
    with (
        decode.open(str(large)) if kind == "video" else FrameFolder([tmp_path / "1.png"], 30.0) as video,
        pytest.raises(ValueError, match=r"^too small$"),
    ):
        video.fitted([0], refuse)


def refuse(frames):
    raise ValueError("too small")


def test_what_replaces_a_broken_video_does_not_depend_on_where_it_broke(tmp_path, maker, pictures):
    """The generator is afterwards as if no frame had been decoded."""
    paths = [tmp_path / f"{number}.png" for number in range(16)]
    for path, picture in zip(paths, pictures(16, 48, 64), strict=True):
        cv2.imwrite(str(path), picture)
    states = []
    for broken in (0, 9):
        content = paths[broken].read_bytes()
        paths[broken].write_bytes(b"broken")
        generator = torch.Generator().manual_seed(1)
        with pytest.raises(VideoError, match=f"{broken}.png"):
            maker("train", lambda path: FrameFolder(paths, 30.0)).training_clips("a", generator)
        states.append(generator.get_state())
        paths[broken].write_bytes(content)
    assert torch.equal(*states)
