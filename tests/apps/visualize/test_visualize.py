"""PySlowFast's visualization: what each key of TENSORBOARD draws, read back from TensorBoard's files and the others."""

import io
import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from slowfast.apps.visualize.clips import clip_frames, with_classes, with_heat
from slowfast.apps.visualize.gradcam import grad_cam, normalized
from slowfast.apps.visualize.layers import LayerChoice, array_picture, class_colors, color_map
from slowfast.apps.visualize.run import visualize
from slowfast.apps.visualize.settings import check
from slowfast.checkpoint.io import save_checkpoint
from slowfast.config import load_config
from slowfast.datasets.build import build_loader
from slowfast.models import build_model

pytest.importorskip("matplotlib")
Image = pytest.importorskip("PIL.Image")

VIS = "TENSORBOARD.MODEL_VIS"
CAM = [f"{VIS}.GRAD_CAM.LAYER_LIST", ["s3/pathway0_res1"]]
NO_CAM = [f"{VIS}.GRAD_CAM.ENABLE", False]
CLIP = 7 * 32  # pixels of a side of a clip as it is shown: at least 200


@pytest.fixture
def weights(tiny_cfg, tmp_path):
    """Weights of the tiny model under which class 1 is always best: two of the four test videos are wrong."""
    torch.manual_seed(0)
    model = build_model(tiny_cfg())
    with torch.no_grad():
        model.head.projection.bias.copy_(torch.tensor([0.0, 1.0]))
        model.head.projection.weight.mul_(0.1)
    save_checkpoint({"model_state": model.state_dict()}, str(tmp_path / "model.pyth"))
    return str(tmp_path / "model.pyth")


@pytest.fixture
def draw(tiny_cfg, weights):
    """`draw(KEY, VALUE, ...)`: visualize one view of each video; return tag -> picture and the names of the files."""

    def call(*overrides):
        settings = ["TENSORBOARD.ENABLE", True, "TEST.NUM_ENSEMBLE_VIEWS", 1, "TEST.CHECKPOINT_FILE_PATH", weights]
        cfg = tiny_cfg(*settings, *overrides)
        visualize(cfg)
        out = Path(cfg.OUTPUT_DIR)
        (events,) = (out / "runs-kinetics").glob("events*")
        read = EventAccumulator(str(events), size_guidance={"images": 0})
        read.Reload()
        events.unlink()
        images = {}
        for tag in read.Tags()["images"]:
            (image,) = read.Images(tag)
            images[tag] = Image.open(io.BytesIO(image.encoded_image_string))
            assert images[tag].size == (image.width, image.height)
        root = out / "visualization"
        return images, {str(path.relative_to(root)): path for path in root.rglob("*.*")}

    return call


@pytest.fixture
def clips(tiny_cfg):
    """Return the four test clips (4, 3, 4, 32, 32) that the model reads, without the code under test."""
    (batch,) = build_loader(tiny_cfg("TEST.NUM_ENSEMBLE_VIEWS", 1), "test")
    return batch.inputs[0]


def frames_of(picture):
    """Return the frames (T, H, W, 3) of a GIF."""
    frames = []
    for number in range(picture.n_frames):
        picture.seek(number)
        frames.append(np.asarray(picture.convert("RGB")))
    return np.stack(frames)


def shown(clip):
    """Return the frames of a clip as they are shown: mean 0.45 and deviation 0.225 undone, enlarged."""
    frames = (clip.permute(1, 2, 3, 0).numpy() * 0.225 + 0.45).clip(0, 1) * 255
    return np.stack([cv2.resize(np.rint(frame).astype(np.uint8), (CLIP, CLIP)) for frame in frames])


def test_clips_alone(draw, clips, decode_all):
    images, files = draw(f"{VIS}.ENABLE", True, *NO_CAM, f"{VIS}.INPUT_VIDEO", True)
    assert list(images) == [f"Input {number}/Pathway 1" for number in range(4)]
    assert sorted(files) == [f"input_{number}/pathway_1.mp4" for number in range(4)]
    for number in range(4):
        truth = shown(clips[number])
        gif = frames_of(images[f"Input {number}/Pathway 1"])
        mp4 = np.stack(decode_all(files[f"input_{number}/pathway_1.mp4"]))
        for found in (gif, mp4):
            assert found.shape == (4, CLIP + 22, CLIP, 3)  # one class below
            assert np.abs(found[:, :CLIP].astype(int) - truth).mean() < 12


def test_grad_cam_beside_the_clip(draw, clips, tiny_cfg, weights):
    images, _ = draw(f"{VIS}.ENABLE", True, f"{VIS}.INPUT_VIDEO", True, *CAM)
    alone, _ = draw(f"{VIS}.ENABLE", True, *CAM)
    model = build_model(tiny_cfg()).eval()
    model.load_state_dict(torch.load(weights)["model_state"])
    (maps,), _ = grad_cam(model, [clips], ["s3.pathway0_res1"], torch.ones(4, dtype=torch.int64), per_frame=True)
    for number in range(4):
        heat = normalized(maps)[number]
        assert heat.max() == 1
        small = clip_frames(clips[number], [0.45] * 3, [0.225] * 3, False)
        heated = np.stack([cv2.resize(f, (CLIP, CLIP)) for f in with_heat(small, heat, "viridis")])
        found = frames_of(images[f"Input {number}/Pathway 1"])[:, :CLIP]
        assert found.shape[2] == 2 * CLIP
        assert np.abs(found[:, :, :CLIP].astype(int) - shown(clips[number])).mean() < 12
        assert np.abs(found[:, :, CLIP:].astype(int) - heated).mean() < 12
        assert frames_of(alone[f"Input {number}/Pathway 1"]).shape[2] == CLIP


def test_keys_of_grad_cam_change_the_heat(draw):
    one, _ = draw(f"{VIS}.ENABLE", True, *CAM)
    for overrides in (
        [*CAM, f"{VIS}.GRAD_CAM.COLORMAP", "jet"],
        [*CAM, f"{VIS}.GRAD_CAM.USE_TRUE_LABEL", True],
        [f"{VIS}.GRAD_CAM.LAYER_LIST", ["s2.pathway0_res0"]],
    ):
        other, _ = draw(f"{VIS}.ENABLE", True, *overrides)
        # Test video 0 has label 0, and class 1 is best.
        assert (frames_of(one["Input 0/Pathway 1"])[:, :CLIP] != frames_of(other["Input 0/Pathway 1"])[:, :CLIP]).any()


def test_classes_below_a_clip(draw):
    clip = [f"{VIS}.ENABLE", True, *NO_CAM, f"{VIS}.INPUT_VIDEO", True]
    tag = "Input 0/Pathway 1"
    plain = frames_of(draw(*clip)[0][tag])
    two = frames_of(draw(*clip, f"{VIS}.TOPK_PREDS", 2)[0][tag])
    colored = frames_of(draw(*clip, f"{VIS}.COLORMAP", "Dark2")[0][tag])
    assert (plain.shape[1], two.shape[1]) == (CLIP + 22, CLIP + 44)
    # The bar of class 1 in the second color of the map, at the middle of its row and the left of its text.
    for found, colormap in ((plain, "Pastel2"), (colored, "Dark2")):
        expected = 255 * class_colors(colormap, 2)(1)
        assert np.abs(found[0, CLIP + 11, 1] - expected).max() < 10


def test_the_bar_of_a_class_is_as_long_as_its_score():
    frames = np.zeros((1, 10, 300, 3), np.uint8)
    found = with_classes(frames, ["a", "b", "c"], np.array([0.1, 0.6, 0.3]), 2, "Dark2")
    for row, (number, score) in enumerate(((1, 0.6), (2, 0.3))):
        color = np.rint(255 * class_colors("Dark2", 3)(number))
        line = found[0, 10 + 22 * row + 3]  # above the text
        assert abs(int((np.abs(line - color).max(axis=1) < 8).sum()) - 300 * score) <= 2


def test_weights_and_activations(draw, clips, tiny_cfg, weights):
    layers = ["s1/pathway0_stem/conv", "s2.pathway0_res0 0,3;1,0", "s3"]
    both = [f"{VIS}.MODEL_WEIGHTS", True, f"{VIS}.ACTIVATIONS", True]
    images, files = draw(f"{VIS}.ENABLE", True, *NO_CAM, *both, f"{VIS}.LAYER_LIST", layers)
    named = [f"Input {n}/Activations: {layer}" for n in range(4) for layer in layers]
    assert list(images) == ["Layer Weights/s1/pathway0_stem/conv", *named]
    assert len(files) == 13 and "layer_weights/s1/pathway0_stem/conv.png" in files
    model = build_model(tiny_cfg()).eval()
    model.load_state_dict(torch.load(weights)["model_state"])
    kept = {}
    model.s2.pathway0_res0.register_forward_hook(lambda module, args, output: kept.update(part=output.detach()))
    with torch.no_grad():
        model([clips])
    # Of the activations (C, T, H, W) of a clip: frame 1 of channel 0 and frame 0 of channel 3, side by side.
    one, other = kept["part"][2, 0, 1], kept["part"][2, 3, 0]
    assert one.shape == (8, 8)
    values = torch.stack([one, other])
    levels = ((values - values.min()) / (values.max() - values.min())).numpy()
    picture = np.asarray(images["Input 2/Activations: s2.pathway0_res0 0,3;1,0"].convert("RGB"))
    factor = picture.shape[1] // 17
    squares = picture[factor // 2 :: factor, factor // 2 :: factor].astype(float)
    truth = 255 * color_map("viridis")(np.concatenate([levels[0], np.ones((8, 1)), levels[1]], axis=1))
    np.testing.assert_allclose(squares[:, :8], truth[:, :8], atol=1)
    np.testing.assert_allclose(squares[:, 9:], truth[:, 9:], atol=1)
    kernel = model.s1.pathway0_stem.conv.weight.detach()
    gray = np.asarray(images["Layer Weights/s1/pathway0_stem/conv"].convert("L"))
    factor = gray.shape[0] // 23  # 4 x 3 x 1 kernels of 7 x 7, in 3 rows with gaps
    first = (kernel[0, 0, 0] - kernel.min()) / (kernel.max() - kernel.min())
    np.testing.assert_allclose(gray[factor // 2 :: factor, factor // 2 :: factor][:7, :7], 255 * first, atol=1)


def test_arrays_of_any_dimension():
    for shape in ((), (7,), (3, 5), (2, 3, 5), (2, 3, 4, 5)):
        picture = array_picture(torch.rand(shape), False)
        assert picture.ndim == 3 and max(picture.shape[:2]) > 256
    # Values that are not finite, and equal ones, are drawn too.
    assert array_picture(torch.tensor([[1.0, torch.nan], [torch.inf, 1.0]]), True).shape == (512, 512, 3)
    levels = array_picture(torch.tensor([[0.0, 0.5], [1.0, 0.25]]), False)[128::256, 128::256, 0]
    assert levels.tolist() == [[0, 128], [255, 64]]


def test_layer_choices():
    assert LayerChoice.parse("s1") == LayerChoice("s1")
    assert LayerChoice.parse("s1 1,2;0,3") == LayerChoice("s1", ([1, 2], [0, 3]))
    array = torch.arange(24).reshape(4, 6)
    assert LayerChoice.parse("s1 1,2;0,3").part_of(array).tolist() == array.numpy()[[1, 2], [0, 3]].tolist()
    with pytest.raises(ValueError, match="neither"):
        LayerChoice.parse("s1 a;b")
    with pytest.raises(ValueError, match="s1 9"):
        LayerChoice.parse("s1 9").part_of(array)


def test_wrong_predictions(draw, tmp_path):
    wrong = ["TENSORBOARD.WRONG_PRED_VIS.ENABLE", True]
    tags = [f"Incorrectly classified videos./Input {n}: predicted 1, label 0/Pathway 1" for n in (0, 2)]
    images, files = draw(*wrong)
    assert list(images) == tags
    assert sorted(files)[0] == "incorrectly_classified_videos/input_0_predicted_1_label_0/pathway_1.mp4"
    assert frames_of(images[tags[0]]).shape == (4, CLIP + 44, CLIP, 3)  # the label and one class below
    (tmp_path / "names.json").write_text(json.dumps({"dark": 0, "bright": 1}))
    named = ["TENSORBOARD.CLASS_NAMES_PATH", str(tmp_path / "names.json"), "TENSORBOARD.WRONG_PRED_VIS.TAG", "Errors"]
    assert list(draw(*wrong, *named)[0])[0] == "Errors/Input 0: predicted bright, label dark/Pathway 1"
    for subset, count in (("dark", 2), ("bright", 0)):
        (tmp_path / "subset.txt").write_text(f"{subset}\n")
        path = ["TENSORBOARD.WRONG_PRED_VIS.SUBSET_PATH", str(tmp_path / "subset.txt")]
        assert len(draw(*wrong, *named, *path)[0]) == count


def test_saved_predictions(draw, tmp_path):
    path = tmp_path / "predictions.pkl"
    path.write_bytes(pickle.dumps([torch.eye(2)[[0, 1, 1]], torch.tensor([0, 1, 0])]))
    # No model is built: its weights do not exist.
    saved = ["TENSORBOARD.PREDICTIONS_PATH", str(path), "TEST.CHECKPOINT_FILE_PATH", "nowhere.pyth"]
    images, files = draw(*saved, "TENSORBOARD.CONFUSION_MATRIX.ENABLE", True)
    assert list(images) == ["Confusion Matrix"] and list(files) == ["predictions/confusion_matrix.png"]
    assert images["Confusion Matrix"].size == (800, 800)
    with pytest.raises(ValueError, match="HISTOGRAM"):
        draw(*saved)
    path.write_bytes(pickle.dumps([torch.eye(3), torch.tensor([0, 1, 0])]))
    with pytest.raises(ValueError, match="3 classes"):
        draw(*saved, "TENSORBOARD.HISTOGRAM.ENABLE", True)


@pytest.mark.parametrize(
    ("told", "overrides"),
    [
        ("nothing to visualize", []),
        ("LAYER_LIST is empty", [*NO_CAM, f"{VIS}.ENABLE", True, f"{VIS}.ACTIVATIONS", True]),
        ("GRAD_CAM.LAYER_LIST", [f"{VIS}.ENABLE", True]),
        ("no layer 's9'", [f"{VIS}.ENABLE", True, f"{VIS}.GRAD_CAM.LAYER_LIST", ["s9"]]),
        ("no color map 'jett'.* jet", [f"{VIS}.ENABLE", True, *CAM, f"{VIS}.GRAD_CAM.COLORMAP", "jett"]),
        ("TOPK_PREDS", [f"{VIS}.ENABLE", True, *CAM, f"{VIS}.TOPK_PREDS", 0]),
    ],
)
def test_mistakes(draw, told, overrides):
    with pytest.raises(ValueError, match=told):
        draw(*overrides)


WRONG = ["TENSORBOARD.WRONG_PRED_VIS.ENABLE", True]
MATRIX = ["TENSORBOARD.CONFUSION_MATRIX.ENABLE", True]


@pytest.mark.parametrize(
    ("told", "overrides"),
    [
        ("no layer 's9'", [f"{VIS}.ENABLE", True, f"{VIS}.GRAD_CAM.LAYER_LIST", ["s9"]]),
        ("no layer 's9'", [f"{VIS}.ENABLE", True, *CAM, f"{VIS}.ACTIVATIONS", True, f"{VIS}.LAYER_LIST", ["s9"]]),
        ("'jett'", [f"{VIS}.ENABLE", True, *CAM, f"{VIS}.COLORMAP", "jett"]),
        ("gone.txt", [*WRONG, "TENSORBOARD.WRONG_PRED_VIS.SUBSET_PATH", "/nowhere/gone.txt"]),
        ("gone.json", [*WRONG, "TENSORBOARD.CLASS_NAMES_PATH", "/nowhere/gone.json"]),
        ("gone.npz", ["TENSORBOARD.PREDICTIONS_PATH", "/nowhere/gone.npz", *MATRIX]),
        ("HISTOGRAM", ["TENSORBOARD.PREDICTIONS_PATH", "/nowhere/gone.npz"]),
    ],
)
def test_mistakes_are_found_before_there_are_weights(tiny_cfg, told, overrides):
    with pytest.raises((ValueError, FileNotFoundError), match=told):
        check(tiny_cfg("TENSORBOARD.ENABLE", True, "TEST.CHECKPOINT_FILE_PATH", "nowhere.pyth", *overrides))


def test_right_settings_pass_before_there_are_weights_and_predictions(tiny_cfg, tmp_path):
    (tmp_path / "subset.txt").write_text("1\n")
    own = Path(tiny_cfg().OUTPUT_DIR) / "test_predictions.npz"
    cfg = tiny_cfg(
        *("TENSORBOARD.ENABLE", True, "TENSORBOARD.PREDICTIONS_PATH", str(own), *MATRIX, f"{VIS}.ENABLE", True, *CAM),
        *(*WRONG, "TENSORBOARD.WRONG_PRED_VIS.SUBSET_PATH", str(tmp_path / "subset.txt")),
    )
    check(cfg)
    assert not own.exists()


def test_both_pathways(tiny_models, tiny_data, tmp_path):
    """Each pathway has a video of its own frames."""
    cfg = load_config(
        None,
        [
            *tiny_models["SlowFast"],
            *("NUM_GPUS", 0, "OUTPUT_DIR", str(tmp_path), "DATA.PATH_TO_DATA_DIR", str(tiny_data)),
            *("TEST.ALLOW_RANDOM_WEIGHTS", True, "TEST.NUM_ENSEMBLE_VIEWS", 1, "TEST.NUM_SPATIAL_CROPS", 1),
            *("DATA.TEST_CROP_SIZE", 32, "DATA.TRAIN_JITTER_SCALES", [32, 36], "DATA.SAMPLING_RATE", 2),
            *("DATA_LOADER.NUM_WORKERS", 0, "TEST.BATCH_SIZE", 4, "TENSORBOARD.ENABLE", True, f"{VIS}.ENABLE", True),
            *(f"{VIS}.GRAD_CAM.LAYER_LIST", ["s3/pathway0_res1", "s3/pathway1_res1"]),
        ],
    )
    visualize(cfg)
    counts = []
    for pathway in (1, 2):
        capture = cv2.VideoCapture(str(tmp_path / "visualization" / "input_3" / f"pathway_{pathway}.mp4"))
        counts.append(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    assert counts == [2, 8]
