"""Images as data: lists, folders, crops and sizes against Pillow; training, and inflation into video models."""

import json
import logging

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from slowfast.config import load_config
from slowfast.datasets import build_dataset
from slowfast.datasets.imagenet import resize_image

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]


def smooth(seed, height=60, width=80):
    """Draw an image (H, W, 3) uint8 without hard edges."""
    rng = np.random.default_rng(seed)
    return cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images in the folders of two classes, in train and val, and a folder that is no class."""
    root = tmp_path_factory.mktemp("imagenet")
    for split in ("train", "val"):
        for number, name in enumerate(("n02", "n01")):
            place = root / split / name
            place.mkdir(parents=True)
            for image in range(3):
                Image.fromarray(smooth(10 * number + image)).save(place / f"image {image}.PNG")
            (place / "notes.txt").write_text("no image")
        (root / split / "other").mkdir()
    return root


@pytest.fixture
def cfg(folder):
    def load(*overrides):
        settings = {
            "TRAIN.DATASET": "imagenet", "TEST.DATASET": "imagenet", "DATA.PATH_TO_DATA_DIR": str(folder),
            "DATA.NUM_FRAMES": 1, "DATA.INPUT_CHANNEL_NUM": [3], "DATA.TRAIN_CROP_SIZE": 32,
            "DATA.TEST_CROP_SIZE": 32, "DATA.MEAN": MEAN, "DATA.STD": STD, "DATA.TRAIN_JITTER_SCALES": [36, 44],
            "MODEL.NUM_CLASSES": 2, "MODEL.ARCH": "2d", "MODEL.MODEL_NAME": "ResNet", "AUG.ENABLE": True,
            "AUG.AA_TYPE": "", "AUG.COLOR_JITTER": None, "AUG.RE_PROB": 0.0, "NUM_GPUS": 0,
        }  # fmt: skip
        return load_config(None, [item for pair in settings.items() for item in pair] + list(overrides))

    return load


def normalized(picture) -> torch.Tensor:
    """Return (3, 1, H, W) of an image (H, W, 3), 0 to 255."""
    return torch.from_numpy(((np.asarray(picture) / 255 - MEAN) / STD).astype(np.float32)).permute(2, 0, 1)[:, None]


def test_classes_are_folders_by_name(cfg, folder):
    dataset = build_dataset(cfg(), "train")
    assert [path.removeprefix(str(folder)) for path in dataset.names[:1] + dataset.names[-1:]] == [
        "/train/n01/image 0.PNG", "/train/n02/image 2.PNG",
    ]  # fmt: skip
    assert list(dataset.labels) == [0, 0, 0, 1, 1, 1]
    assert dataset.info.class_names == {0: "n01", 1: "n02"}
    assert (len(dataset), dataset.num_views) == (6, 1)


def test_test_takes_the_images_of_val_in_one_view(cfg):
    dataset = build_dataset(cfg("TEST.NUM_ENSEMBLE_VIEWS", 10, "TEST.NUM_SPATIAL_CROPS", 3), "test")
    assert len(dataset) == 6 and "/val/n01/" in dataset.names[0]


def test_folders_of_any_name_count_if_none_is_a_synset(cfg, tmp_path):
    for name in ("dog", "cat"):
        (tmp_path / "train" / name).mkdir(parents=True)
        Image.fromarray(smooth(1)).save(tmp_path / "train" / name / "a.jpg")
    dataset = build_dataset(cfg("DATA.PATH_TO_DATA_DIR", str(tmp_path)), "train")
    assert dataset.info.class_names == {0: "cat", 1: "dog"}


def test_lists(cfg, folder, tmp_path):
    image = "val/n02/image 1.PNG"
    (tmp_path / "val.json").write_text(json.dumps([{"im_path": str(folder / image), "class": 1}]))
    (tmp_path / "val.csv").write_text(f"{image} 1\n")
    listed = build_dataset(cfg("DATA.PATH_TO_PRELOAD_IMDB", str(tmp_path)), "val")
    lines = build_dataset(cfg("DATA.PATH_TO_DATA_DIR", str(tmp_path), "DATA.PATH_PREFIX", str(folder)), "val")
    for dataset in (listed, lines):
        assert list(dataset.names) == [str(folder / image)] and list(dataset.labels) == [1]
    torch.testing.assert_close(listed[0].inputs, lines[0].inputs)


def draw(folder, *names):
    """Write an image into each of the folders."""
    for name in names:
        (folder / name).mkdir(parents=True)
        Image.fromarray(smooth(0)).save(folder / name / "a.png")


def labels(dataset):
    """Return the split and class folder of each image, with its label."""
    return [(*path.split("/")[-3:-1], label) for path, label in zip(dataset.names, dataset.labels, strict=True)]


def test_imagenet_22k_trains_on_val_and_validates_on_imagenet_1k(cfg, tmp_path, caplog):
    draw(tmp_path / "22k", "train/n01", "train/n03", "train/n05", "val/n03", "val/n04")
    draw(tmp_path / "1k", "val/n05", "val/n03", "val/n09")
    data = ["DATA.PATH_TO_DATA_DIR", str(tmp_path / "22k"), "MODEL.NUM_CLASSES", 4]
    of_1k = ["DATA.IN22k_VAL_IN1K", str(tmp_path / "1k")]
    joint = build_dataset(cfg(*data, "DATA.IN22K_TRAINVAL", True, *of_1k), "train")
    assert labels(joint) == [
        ("train", "n01", 0), ("train", "n03", 1), ("train", "n05", 3), ("val", "n03", 1), ("val", "n04", 2),
    ]  # fmt: skip
    assert joint.info.class_names == {0: "n01", 1: "n03", 2: "n04", 3: "n05"}
    for split in ("val", "test"):
        dataset = build_dataset(cfg(*data, "DATA.IN22K_TRAINVAL", True, *of_1k), split)
        assert labels(dataset) == [("val", "n03", 1), ("val", "n05", 3)] and "/1k/" in dataset.names[0]
    assert "1 of 3 classes are no class of the training images and are left out: n09" in caplog.text
    assert labels(build_dataset(cfg(*data, *of_1k), "train")) == labels(joint)[:2] + [("train", "n05", 2)]
    assert labels(build_dataset(cfg(*data, *of_1k), "val")) == [("val", "n03", 1), ("val", "n05", 2)]
    with pytest.raises(FileNotFoundError, match=r"IN22k_VAL_IN1K must be the folder"):
        build_dataset(cfg(*data, "DATA.IN22k_VAL_IN1K", str(tmp_path / "none")), "val")


def test_imagenet_22k_in_lists(cfg, tmp_path):
    for place, name, label in (("22k", "train", 0), ("22k", "val", 1), ("1k", "val", 1)):
        (tmp_path / place).mkdir(exist_ok=True)
        entry = {"im_path": f"{place} {name}.jpg", "class": label}
        (tmp_path / place / f"{name}.json").write_text(json.dumps([entry]))
    lists = ["DATA.PATH_TO_PRELOAD_IMDB", str(tmp_path / "22k"), "DATA.IN22K_TRAINVAL", True]
    settings = cfg(*lists, "DATA.IN22k_VAL_IN1K", str(tmp_path / "1k"))
    train, val = build_dataset(settings, "train"), build_dataset(settings, "val")
    assert list(train.names) == ["22k train.jpg", "22k val.jpg"] and list(train.labels) == [0, 1]
    assert list(val.names) == ["1k val.jpg"]


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest"])
def test_resizing_is_that_of_pillow(mode):
    picture = smooth(0)
    for height, width in ((32, 32), (128, 256)):  # no ties for nearest
        expected = Image.fromarray(picture).resize((width, height), getattr(Image.Resampling, mode.upper()))
        found = resize_image(picture[None], height, width, mode)[0]
        assert np.abs(found.astype(int) - np.asarray(expected).astype(int)).max() <= 2


@pytest.mark.parametrize(("ratio", "short"), [(0.875, 36), (1.0, 32)])
def test_evaluation_shows_the_center(cfg, ratio, short):
    dataset = build_dataset(cfg("DATA.IN_VAL_CROP_RATIO", ratio), "val")
    picture = Image.open(dataset.names[4]).resize((int(80 / 60 * short), short), Image.Resampling.BICUBIC)
    left, top = round((picture.width - 32) / 2), round((short - 32) / 2)
    (found,) = dataset[4].inputs
    expected = normalized(picture.crop((left, top, left + 32, top + 32)))
    assert found.shape == (3, 1, 32, 32) and (found - expected).abs().max() < 1.01 / 255 / min(STD)


def test_evaluation_without_a_crop_shows_all(cfg):
    dataset = build_dataset(cfg("DATA.IN_VAL_CROP_RATIO", 0), "test")
    expected = normalized(Image.open(dataset.names[0]).resize((32, 32), Image.Resampling.BICUBIC))
    assert (dataset[0].inputs[0] - expected).abs().max() < 1.01 / 255 / min(STD)


def test_training_crops_are_parts_of_the_image_at_random(cfg):
    dataset = build_dataset(cfg("DATA.TRAIN_JITTER_SCALES_RELATIVE", [1.0, 1.0],
                                "DATA.TRAIN_JITTER_ASPECT_RELATIVE", [80 / 60, 80 / 60]), "train")  # fmt: skip
    whole = normalized(Image.open(dataset.names[0]).resize((32, 32), Image.Resampling.BICUBIC))
    flips = set()
    for epoch in range(8):
        (found,) = dataset[0, epoch].inputs
        near = [(found - picture).abs().max() < 1.01 / 255 / min(STD) for picture in (whole, whole.flip(-1))]
        assert any(near)
        flips.add(near.index(True))
    assert flips == {0, 1}
    random = build_dataset(cfg("AUG.AA_TYPE", "rand-m9-mstd0.5-inc1", "AUG.RE_PROB", 1.0), "train")
    assert torch.equal(random[0, 3].inputs[0], random[0, 3].inputs[0])
    assert not torch.equal(random[0, 3].inputs[0], random[0, 4].inputs[0])


def test_repeated_augmentation_and_clips_of_equal_frames(cfg):
    samples = build_dataset(cfg("AUG.NUM_SAMPLE", 2, "DATA.NUM_FRAMES", 4), "train")[0]
    assert len(samples) == 2 and samples[0].inputs[0].shape == (3, 4, 32, 32)
    assert torch.equal(samples[0].inputs[0][:, :1].expand(-1, 4, -1, -1), samples[0].inputs[0])


def test_without_strong_augmentation(cfg):
    plain = cfg("AUG.ENABLE", False, "DATA.TRAIN_CROP_SIZE", 28, "DATA.TEST_CROP_SIZE", 32)
    (image,) = build_dataset(plain, "val")[0].inputs
    assert image.shape == (3, 1, 28, 28)
    # Lighting noise shifts each channel by one number: the differences between pixels stay.
    steady = ["DATA.RANDOM_FLIP", False, "DATA.TRAIN_JITTER_SCALES", [32, 32], "DATA.TRAIN_CROP_SIZE", 32]
    flat = build_dataset(cfg("AUG.ENABLE", False, *steady, "DATA.TRAIN_JITTER_SCALES_RELATIVE", [1.0, 1.0],
                             "DATA.TRAIN_JITTER_ASPECT_RELATIVE", [80 / 60, 80 / 60]), "train")  # fmt: skip
    first, second = flat[0, 0].inputs[0], flat[0, 1].inputs[0]
    shift = (first - second).flatten(1)
    assert shift.abs().max() > 1e-3 and (shift.amax(1) - shift.amin(1)).max() < 1e-5


def test_an_unreadable_image_is_replaced_in_training(cfg, folder, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    entries = [{"im_path": str(path), "class": 0} for path in (tmp_path / "broken.jpg", folder / "val/n01/image 0.PNG")]
    for split in ("train", "val"):
        (tmp_path / f"{split}.json").write_text(json.dumps(entries))
    settings = cfg("DATA.PATH_TO_PRELOAD_IMDB", str(tmp_path))
    sample = build_dataset(settings, "train")[0]
    assert sample.video == 1 and sample.replaced[0][0] == str(tmp_path / "broken.jpg")
    assert "broken.jpg" in build_dataset(settings, "val")[0].path


def odd_pictures(folder):
    """Write images of many kinds; return the pixels of each (H, W, 3), as Pillow has them."""
    colors = Image.fromarray(smooth(0))
    gray = colors.convert("L")
    turned = Image.Exif()
    turned[0x0112] = 6
    clear = colors.convert("RGBA")
    clear.putalpha(gray)
    colors.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    colors.save(folder / "turned.jpg", exif=turned, quality=95)
    colors.save(folder / "a png.JPEG", "PNG")
    colors.convert("P", palette=Image.Palette.ADAPTIVE).save(folder / "palette.png")
    gray.save(folder / "gray.png")
    gray.convert("1").save(folder / "black and white.png")
    clear.save(folder / "alpha.png")
    colors.save(folder / "moving.webp", save_all=True, append_images=[colors.rotate(180)], lossless=True)
    expected = {
        path.name: np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB")) for path in folder.iterdir()
    }
    # Pillow clips numbers of 16 bits.
    Image.fromarray(np.asarray(gray).astype(np.uint16) * 257).save(folder / "gray of 16 bits.png")
    cv2.imwrite(str(folder / "16 bits.png"), np.asarray(colors)[..., ::-1].astype(np.uint16) * 257)
    return {**expected, "gray of 16 bits.png": expected["gray.png"], "16 bits.png": np.asarray(colors)}


def test_odd_images_have_the_pixels_that_pillow_reads(cfg, tmp_path):
    place = tmp_path / "val" / "n01"
    place.mkdir(parents=True)
    expected = odd_pictures(place)
    dataset = build_dataset(cfg("DATA.PATH_TO_DATA_DIR", str(tmp_path), "DATA.IN_VAL_CROP_RATIO", 0), "val")
    assert len(dataset) == len(expected) == 10
    for number, path in enumerate(dataset.names):
        pixels = expected[path.rpartition("/")[2]]
        assert pixels.shape == ((80, 60, 3) if path.endswith("turned.jpg") else (60, 80, 3))
        wanted = normalized(Image.fromarray(pixels).resize((32, 32), Image.Resampling.BICUBIC))
        # Decoders of CMYK round otherwise, by 1.
        assert (dataset[number].inputs[0] - wanted).abs().max() < 2.1 / 255 / min(STD), path


def test_files_without_an_image_have_a_line_each(cfg, tmp_path, caplog):
    colors = Image.fromarray(smooth(0))
    colors.save(tmp_path / "moving.gif", save_all=True, append_images=[colors.rotate(180)])
    colors.save(tmp_path / "whole.png")
    colors.save(tmp_path / "whole.jpg")
    for suffix in ("png", "jpg"):
        content = (tmp_path / f"whole.{suffix}").read_bytes()
        (tmp_path / f"half.{suffix}").write_bytes(content[: len(content) // 2])
    (tmp_path / "empty.jpg").write_bytes(b"")
    names = ["moving.gif", "half.png", "half.jpg", "empty.jpg", "missing.jpg"]
    entries = [{"im_path": str(tmp_path / name), "class": 0} for name in names]
    (tmp_path / "val.json").write_text(json.dumps(entries))
    dataset = build_dataset(cfg("DATA.PATH_TO_PRELOAD_IMDB", str(tmp_path), "DATA.MAX_UNREADABLE_FRACTION", 1.0), "val")
    for number, name in enumerate(names):
        sample = dataset[number]
        assert sample.path.endswith(name) and "\n" not in sample.cause and name in sample.cause, sample
    assert "JPEG, PNG, BMP, WebP, TIFF and PNM are read" in dataset[0].cause
    assert "cut off" in dataset[2].cause


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is none of .*train.json"),
        ("{", "is no JSON"),
        ("[]", "no list of images"),
        ('[{"im_path": "a.jpg"}]', "entry 0: no"),
        ('[{"im_path": "a.jpg", "class": 2}]', "entry 0 has class 2, outside 0 to 1"),
    ],
)
def test_mistakes_in_lists_are_named(cfg, tmp_path, content, message):
    if content is not None:
        (tmp_path / "train.json").write_text(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        build_dataset(cfg("DATA.PATH_TO_PRELOAD_IMDB", str(tmp_path)), "train")


def test_mistakes_in_folders_are_named(cfg, tmp_path):
    with pytest.raises(ValueError, match="2 folders of classes, but the model has 1"):
        build_dataset(cfg("MODEL.NUM_CLASSES", 1), "train")
    (tmp_path / "train").mkdir()
    with pytest.raises(ValueError, match="no image in a folder of a class"):
        build_dataset(cfg("DATA.PATH_TO_DATA_DIR", str(tmp_path)), "train")
    with pytest.raises(ValueError, match="IN_VAL_CROP_RATIO is 1.5"):
        build_dataset(cfg("DATA.IN_VAL_CROP_RATIO", 1.5), "val")


def test_the_log_counts_images(cfg, caplog):
    with caplog.at_level(logging.INFO):
        build_dataset(cfg(), "train")
    assert "6 images" in caplog.text
