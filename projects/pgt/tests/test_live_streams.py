"""A live source's answers are those of the offline pass, with the memory carried through."""

import os
import threading

import av
import numpy as np
import pytest


@pytest.mark.parametrize(("kind", "rate"), [("mpegts", 25), ("matroska", 30)])
def test_a_video_on_standard_input_has_the_answers_of_the_file(predictor, tmp_path, monkeypatch, kind, rate):
    path, noise = tmp_path / "film", np.random.default_rng(0).integers(0, 256, (170, 48, 64, 3), dtype=np.uint8)
    with av.open(str(path), "w", format=kind) as output:
        stream = output.add_stream("mpeg4", rate=rate)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for picture in noise:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        output.mux(stream.encode(None))
    reading, writing = os.pipe()

    def write():
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(path.read_bytes())

    writer = threading.Thread(target=write)
    writer.start()
    with os.fdopen(reading, "rb") as pipe:
        monkeypatch.setattr("sys.stdin", pipe)
        found = list(predictor.live("-"))
    writer.join()
    wanted = list(predictor.stream(path))
    assert len(wanted) > 2
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a.all_scores, b.all_scores)
        assert (a.start_s, a.end_s) == pytest.approx((b.start_s, b.end_s), abs=1e-3)
