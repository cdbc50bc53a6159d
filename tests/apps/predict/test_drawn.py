"""Videos with answers drawn in, held against their sources as PyAV reads both."""

import contextlib
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from slowfast.apps.predict import drawn
from slowfast.apps.predict.drawn import draw_answers, draw_video, drawn_video
from slowfast.apps.predict.painter import Box, Caption
from slowfast.apps.predict.people import PeopleAnswer, PersonAnswer
from slowfast.apps.predict.scorer import Answer
from slowfast.datasets.video.find import VideoOpener
from slowfast.datasets.video.open import open as open_video
from slowfast.datasets.video.reader import VideoError

pytest.importorskip("matplotlib")
OPENER = VideoOpener(open_video, image_fps=10, threads=1)
CAPTIONS = [Caption(0.0, ["walk", "run"], [0.9, 0.1]), Caption(0.4, ["jump", "swim"], [0.6, 0.4])]


@pytest.fixture
def draw(tmp_path):
    """`draw(source, captions) -> path of the drawn video`."""

    def call(source, captions=CAPTIONS):
        target = tmp_path / "drawn.mp4"
        draw_video(str(source), str(target), captions, OPENER)
        return target

    return call


def stamps_of(path):
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def sound_of(path):
    """Name of the codec, packets, and seconds of the sound that decodes."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        packets = [bytes(packet) for packet in container.demux(stream) if packet.size]
        seconds = sum(frame.samples / frame.sample_rate for frame in sound_frames(path))
        return stream.codec_context.name, packets, seconds


def sound_frames(path):
    with av.open(str(path)) as container:
        yield from container.decode(audio=0)


def test_frames_stamps_and_sound_are_kept(encode, pictures, decode_all, draw, tmp_path):
    shown = pictures(30, 240, 320)
    pts = np.cumsum([0, *np.random.default_rng(1).integers(10, 60, 29)]).tolist()
    base = Fraction(1, 1000)
    source = encode(tmp_path / "a.mp4", shown, pts=pts, time_base=base, audio=True, options={"crf": "10", "bf": "2"})
    made = draw(source)
    assert stamps_of(made) == stamps_of(source) == [number * base for number in pts]
    assert sound_of(made)[:2] == sound_of(source)[:2]
    assert sound_of(made)[2] == pytest.approx(sound_of(source)[2], abs=1e-3)

    before, after = np.array(decode_all(source), int), np.array(decode_all(made), int)
    assert before.shape == after.shape
    change = np.abs(after - before)
    # A row of 16 pixels for each class from pixel 6 on, and one for the time that ends 6 pixels above the bottom.
    assert change[:, 8:36, 8:230].mean() > 30
    assert change[:, 220:232, 8:50].mean() > 30
    assert change[:, 60:210].mean() < 3
    assert change[:, :, 250:].mean() < 3
    # The labels, left of the score, change with the answer and with nothing else.
    labels = after[:, 8:36, 8:120].mean(axis=-1)
    second = next(number for number, stamp in enumerate(pts) if stamp >= 400)
    assert np.abs(labels[second] - labels[second - 1]).mean() > 15
    assert np.abs(labels[second - 1] - labels[0]).mean() < 8
    assert np.abs(labels[-1] - labels[second]).mean() < 8


def test_other_sound_becomes_aac_and_stays_with_the_pictures(pictures, draw, tmp_path):
    source = tmp_path / "a.mkv"
    wave = np.zeros((1, 16000), np.int16)
    wave[0, 8000:8200] = 20000  # a click at half a second
    with av.open(str(source), "w") as output:
        video, sound = output.add_stream("libx264", rate=20), output.add_stream("pcm_s16le", rate=16000)
        video.height, video.width, video.pix_fmt = 240, 320, "yuv420p"
        sound.codec_context.layout = "mono"
        # Pictures begin a quarter of a second after the sound.
        for number, picture in enumerate(pictures(10, 240, 320)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number + 5, Fraction(1, 20)
            output.mux(video.encode(frame))
        frame = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
        frame.sample_rate, frame.pts = 16000, 0
        output.mux(sound.encode(frame))
        for stream in (video, sound):
            output.mux(stream.encode(None))
    made = draw(source)
    assert [float(stamp) for stamp in stamps_of(made)] == pytest.approx([0.25 + n / 20 for n in range(10)], abs=1e-3)
    name, _, seconds = sound_of(made)
    assert name == "aac"
    assert seconds == pytest.approx(1.0, abs=2 * 1024 / 16000)
    loud = [
        float(frame.pts * frame.time_base) + int(np.abs(frame.to_ndarray()[0]).argmax()) / 16000
        for frame in sound_frames(made)
        if np.abs(frame.to_ndarray()).max() > 0.3
    ]
    assert loud[0] == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [((0, 1, -1, 0), lambda p: np.rot90(p, -1)), ((-1, 0, 0, -1), lambda p: np.rot90(p, 2))],
    ids=["quarter", "half"],
)
def test_turned_videos_are_upright(encode, pictures, decode_all, draw, with_matrix, tmp_path, matrix, turn):
    plain = encode(tmp_path / "plain.mp4", pictures(3, 240, 320))
    made = np.array(decode_all(draw(with_matrix(plain, tmp_path / "turned.mp4", matrix))), int)
    truth = np.array([turn(frame) for frame in decode_all(plain)], int)
    assert made.shape == truth.shape
    assert np.abs(made - truth)[:, 60:-40].mean() < 3


def test_odd_and_small_videos(encode, pictures, decode_all, draw, tmp_path):
    shown = pictures(4, 201, 301)
    odd = encode(tmp_path / "odd.mkv", shown, "ffv1", pix_fmt="yuv420p")
    made = np.array(decode_all(draw(odd)), int)
    assert made.shape == (4, 202, 302, 3)
    assert np.abs(made[:, 100:201, 100:301] - np.array(decode_all(odd), int)[:, 100:, 100:]).mean() < 4
    small = draw(encode(tmp_path / "small.mp4", pictures(4, 112, 112)))
    assert np.array(decode_all(small)).shape == (4, 224, 224, 3)
    tiny = draw(encode(tmp_path / "tiny.mp4", pictures(4, 16, 640)))
    assert np.array(decode_all(tiny)).shape == (4, 48, 1920, 3)


def test_a_folder_of_images(decode_all, draw, pictures, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    shown = pictures(6, 240, 320)
    for number, picture in enumerate(shown):
        cv2.imwrite(str(folder / f"{number:03d}.png"), picture[..., ::-1])
    made = draw(folder)
    assert stamps_of(made) == [Fraction(number, 10) for number in range(6)]
    assert np.abs(np.array(decode_all(made), int)[:, 60:200] - shown[:, 60:200]).mean() < 4


def answer(start_s, name):
    return Answer(start_s, start_s + 1, np.float32([0.9]), [name], np.float32([0.9]))


def test_answers_are_drawn_from_their_start_to_the_next(encode, pictures, draw, decode_all, tmp_path):
    source = encode(tmp_path / "a.mp4", pictures(30, 240, 320), rate=10, audio=True)
    expected = decode_all(draw(source, [Caption(0.0, ["walk"], [0.9]), Caption(1.0, ["run"], [0.9])]))
    target = tmp_path / "answers.mp4"
    assert draw_answers(str(source), str(target), iter([answer(0.0, "walk"), answer(1.0, "run")])) == 3
    change = np.abs(np.array(decode_all(target), int) - np.array(expected, int))
    # On several threads, libx264 does not write the same twice. A label differs by 100 and more.
    assert change.max() < 50 and change.mean() < 0.5
    assert sound_of(target)[1] == sound_of(source)[1]


def test_persons_are_drawn_around_their_moments(encode, pictures, decode_all, tmp_path):
    source = encode(tmp_path / "a.mp4", pictures(30, 240, 320), options={"crf": "10"}, rate=10)
    box = np.array([0.25, 0.5, 0.75, 0.9])
    person = PersonAnswer(1, box, 0.9, np.float32([0.93]), ["walk"], np.float32([0.93]))
    draw_answers(str(source), str(tmp_path / "b.mp4"), [PeopleAnswer(1.0, 2.0, 1.5, [person], np.float32([0.93]))])
    change = np.abs(np.array(decode_all(tmp_path / "b.mp4"), int) - np.array(decode_all(source), int)).mean(axis=-1)
    edges = change[:, 122:214, 80:82].mean(axis=(1, 2))
    assert (edges[10:20] > 25).all() and edges[:10].max() < 8 and edges[20:].max() < 8


def test_frames_are_written_as_they_come(encode, pictures, decode_all, tmp_path):
    shown = pictures(30, 240, 320)
    source = encode(tmp_path / "a.mp4", shown, rate=10, audio=True)
    seconds = np.cumsum([0, *np.random.default_rng(1).integers(10, 60, 29)]) / 100
    with drawn_video(tmp_path / "b.mp4", sound=source) as video:
        for number, picture in enumerate(shown):
            video.add(picture[:, ::-1], float(seconds[number]), answer(0.0, "walk") if number >= 15 else None)
    assert [float(stamp) for stamp in stamps_of(tmp_path / "b.mp4")] == pytest.approx(seconds.tolist(), abs=1e-4)
    assert sound_of(tmp_path / "b.mp4")[1] == sound_of(source)[1]
    change = np.abs(np.array(decode_all(tmp_path / "b.mp4"), int) - shown[:, :, ::-1])
    assert change[15:, 8:20, 8:230].mean() > 30 > 8 > change[:15, 8:20, 8:230].mean()
    assert change[:, 60:200].mean() < 4


def test_a_growing_file_plays_before_it_ends_and_another_has_its_name_at_the_end(pictures, decode_all, tmp_path):
    shown = pictures(30, 240, 320)
    for growing in (True, False):
        path = tmp_path / f"{growing}.mp4"
        with contextlib.suppress(KeyError), drawn_video(path, growing=growing) as video:
            for number in range(120):
                video.add(shown[number % 30], number / 10)
            if growing:
                assert 20 <= len(decode_all(path)) < 120
            raise KeyError
        assert path.exists() is growing
    with pytest.raises(ValueError, match="no frame"), drawn_video(tmp_path / "none.mp4"):
        pass
    with drawn_video(tmp_path / "none.mp4", growing=True):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["True.mp4"]


def test_what_cannot_be_read_or_written(draw, encode, pictures, tmp_path, told_of_limit):
    with pytest.raises(VideoError, match="no such file"):
        draw(tmp_path / "none.mp4")
    source = encode(tmp_path / "a.mp4", pictures(30, 240, 320))
    target = tmp_path / "drawn.mp4"
    assert str(target) in told_of_limit(4096, lambda: draw(source))
    assert list(tmp_path.iterdir()) == [source]


def test_a_missing_encoder_is_one_line(monkeypatch):
    monkeypatch.setattr(drawn, "ENCODER", "libx999")
    with pytest.raises(ValueError, match=r"no encoder libx999.*pip install"):
        drawn.check_drawing()


def test_boxes_come_and_go_with_their_captions(encode, pictures, draw, decode_all, tmp_path):
    source = encode(tmp_path / "a.mp4", pictures(30, 240, 320), options={"crf": "10"}, rate=10)
    boxes = [Box(0.25, 0.5, 0.75, 0.9, ["walk 0.93"], 1)]
    made = draw(source, [Caption(1.0, boxes=boxes), Caption(2.0)])
    change = np.abs(np.array(decode_all(made), int) - np.array(decode_all(source), int)).mean(axis=-1)
    edges = change[:, 122:214, 80:82].mean(axis=(1, 2))
    assert (edges[10:20] > 25).all() and edges[:10].max() < 8 and edges[20:].max() < 8
    # Outside box and label, and above the time, only the codec changes something.
    change[10:20, 100:220, 78:244] = 0
    assert change[:, :210].mean() < 3
