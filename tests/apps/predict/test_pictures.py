"""A model of images answers about pictures, and about frames of videos one by one."""

import json
import logging

import numpy as np
import pytest
import torch
from PIL import Image

import slowfast
from slowfast.apps.export.export import export
from slowfast.apps.features.extract import FeatureOptions, extract
from slowfast.checkpoint.io import save_checkpoint
from slowfast.config import cfg_to_yaml, load_config
from slowfast.datasets.video.reader import VideoError
from slowfast.models import build_model

OF_IMAGES = [
    "MVIT.PATCH_2D", True, "MVIT.PATCH_PADDING", [0, 0], "MVIT.PATCH_KERNEL", [8, 8], "MVIT.PATCH_STRIDE", [8, 8],
    "MVIT.POOL_KVQ_KERNEL", [1, 3, 3], "DATA.NUM_FRAMES", 1, "TRAIN.DATASET", "imagenet", "TEST.DATASET", "imagenet",
    "AUG.ENABLE", True,
]  # fmt: skip


@pytest.fixture
def saved(tiny_mvit, parity, tmp_path):
    """Config and filled model of images, and their checkpoint."""
    path = str(tmp_path / "images.pyth")
    more = [
        "NUM_GPUS",
        0,
        "DATA_LOADER.NUM_WORKERS",
        0,
        "TEST.NUM_ENSEMBLE_VIEWS",
        10,
        "TEST.CHECKPOINT_FILE_PATH",
        path,
    ]
    cfg = load_config(None, [*tiny_mvit, *OF_IMAGES, *more])
    model = parity.fill_module(build_model(cfg)).eval()
    save_checkpoint({"model_state": model.state_dict(), "cfg": cfg_to_yaml(cfg)}, path)
    return cfg, model, path


@pytest.fixture
def pictures(tmp_path):
    """Folder of pictures of several sizes, in two folders of classes."""
    rng = np.random.default_rng(0)
    for number, (folder, size) in enumerate((("cat", (40, 60)), ("cat", (50, 36)), ("dog", (32, 32)))):
        place = tmp_path / "pictures" / folder
        place.mkdir(parents=True, exist_ok=True)
        colors = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
        colors.resize(size, Image.Resampling.BICUBIC).save(place / f"picture {number}.png")
    return tmp_path / "pictures"


def pixels_of(cfg, path):
    """Return (1, 3, 1, 32, 32) of a picture, resized and cropped by Pillow."""
    picture = Image.open(path)
    short = int(32 / 0.875)
    width, height = (int(side / min(picture.size) * short) for side in picture.size)
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - 32) / 2), round((height - 32) / 2)
    pixels = np.asarray(picture.crop((left, top, left + 32, top + 32))) / 255
    colors = torch.from_numpy((pixels - cfg.DATA.MEAN) / cfg.DATA.STD).float()
    return colors.permute(2, 0, 1)[None, :, None]


def test_the_answer_about_a_picture_is_that_of_its_pixels(saved, pictures):
    cfg, model, path = saved
    predictor = slowfast.load(path, device="cpu")
    for picture in sorted(pictures.rglob("*.png")):
        with torch.no_grad():
            expected = model([pixels_of(cfg, picture)])[0].numpy()
        array = np.asarray(Image.open(picture))
        answers = [
            predictor(str(picture)),
            predictor(array),
            *predictor.stream(str(picture)),
            *predictor.clips(picture),
        ]
        assert len(answers) == 4
        for answer in answers:
            np.testing.assert_allclose(answer.all_scores, expected, atol=0.02 * expected.std())
            assert answer.start_s == 0


def test_frames_of_a_video_are_answered_one_by_one(saved, tiny_data):
    predictor = slowfast.load(saved[2], device="cpu", overrides=["DATA.SAMPLING_RATE", 8])
    video = str(tiny_data / "test 0.mp4")
    assert len(predictor.clips(video)) == 2
    with pytest.raises(ValueError, match="scores images, and .*test 0.mp4 has 16 frames"):
        predictor(video)


def test_a_broken_picture_is_named(saved, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(VideoError, match=r"broken.jpg: no image"):
        slowfast.load(saved[2], device="cpu")(tmp_path / "broken.jpg")


def test_the_tool_answers_about_each_picture_of_a_folder(saved, pictures, run_tool, tmp_path):
    (pictures / "broken.jpg").write_bytes(b"no picture")
    out = tmp_path / "out"
    command = ("predict", "--checkpoint", saved[2], "--source", pictures, "--output", out, "--no-pictures")
    status, output = run_tool(*command)
    assert status == 1, output
    lines = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    assert [line["video"].removeprefix(str(pictures)) for line in lines] == [
        "/cat/picture 0.png", "/cat/picture 1.png", "/dog/picture 2.png",
    ]  # fmt: skip
    assert "4 images in" in output and f"unreadable image {pictures / 'broken.jpg'}" in output
    assert "of video" not in output


@pytest.mark.slow
def test_the_files_of_an_export_compute_it(saved, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    cfg, model, _ = saved
    about = export(cfg, str(tmp_path / "e"), ["onnx", "pt2"])
    assert about["graphs"][0]["inputs"] == [{"name": "clip", "shape": ["batch", 3, 1, 32, 32]}]
    assert {name: about["preprocessing"][name] for name in ("short_side", "crop", "resize")} == {
        "short_side": 36, "crop": 32, "resize": "bicubic, antialiased",
    }  # fmt: skip
    images = torch.randn(3, 3, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = model([images]).detach()
    session = onnxruntime.InferenceSession(str(tmp_path / "e/model.onnx"), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(["scores"], {"clip": images.numpy()})[0], expected, rtol=1e-3, atol=1e-4)
    program = torch.export.load(str(tmp_path / "e/model.pt2")).module()
    torch.testing.assert_close(program([images]), expected, rtol=1e-3, atol=1e-4)


def test_features_of_pictures_are_those_of_their_pixels(saved, pictures, tmp_path, caplog):
    cfg, model, _ = saved
    caplog.set_level(logging.INFO)
    paths = tuple(map(str, sorted(pictures.rglob("*.png"))))
    extract(cfg, FeatureOptions(str(tmp_path / "features"), videos=paths))
    assert "3 images: 3 written" in caplog.text
    for path in paths:
        with np.load(f"{tmp_path}/features/videos/{path}.npz") as found:
            with torch.no_grad():
                (expected,) = model.forward_features([pixels_of(cfg, path)])
            expected = expected.mean(dim=(2, 3, 4))[0].numpy()
            (feature,) = found["features"].reshape(-1, len(expected))
            np.testing.assert_allclose(feature, expected, atol=0.02 * expected.std())
