"""The commands that visualize: `run_net.py` after training and test, and `visualization.py` alone."""

from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from slowfast.apps.synthetic.formats import SetSpec, make_set

pytest.importorskip("matplotlib")

BOXES = "person_box_67091280_iou90/ava_detection_val_boxes_and_labels.csv"
VIS = ["TENSORBOARD.MODEL_VIS.ENABLE", True, "TENSORBOARD.MODEL_VIS.GRAD_CAM.LAYER_LIST", ["s3/pathway0_res1"]]


def tags_of(folder):
    found = []
    for events in sorted(Path(folder).glob("events*")):
        read = EventAccumulator(str(events), size_guidance={"images": 0})
        read.Reload()
        found += read.Tags()["images"]
    return found


@pytest.mark.slow
def test_two_processes_train_test_and_one_of_them_draws(tool, finish, tiny_file, tiny_cfg):
    matrix = ["TENSORBOARD.ENABLE", True, "TENSORBOARD.CONFUSION_MATRIX.ENABLE", True]
    settings = [*matrix, *VIS, "SOLVER.MAX_EPOCH", 1, "TEST.NUM_ENSEMBLE_VIEWS", 1]
    status, output = finish(tool("run_net", "--cfg", tiny_file, "--num_procs", 2, *settings))
    assert status == 0, output
    out = Path(tiny_cfg().OUTPUT_DIR)
    # Of validation and test, then all clips, once each.
    inputs = [f"Input {number}/Pathway 1" for number in range(4)]
    assert tags_of(out / "runs-kinetics") == ["Confusion Matrix", "Confusion Matrix", *inputs]
    files = sorted(str(path.relative_to(out / "visualization")) for path in (out / "visualization").rglob("*.*"))
    clips = [f"input_{number}/pathway_1.mp4" for number in range(4)]
    assert files == [*clips, "test/confusion_matrix.png", "val/confusion_matrix.png"]


def test_the_tool_alone(run_tool, tiny_file, tiny_cfg):
    words = ["--cfg", tiny_file, "TEST.ALLOW_RANDOM_WEIGHTS", True, "TEST.NUM_ENSEMBLE_VIEWS", 1]
    status, output = run_tool("visualization", *words, *VIS)
    out = Path(tiny_cfg().OUTPUT_DIR)
    assert status == 0, output
    assert len(list((out / "visualization").rglob("*.mp4"))) == 4
    assert not (out / "checkpoints").exists() and not (out / "test_results.json").exists()
    for more, told in ((VIS[:2], "GRAD_CAM.LAYER_LIST"), ([], "PREDICTIONS_PATH")):
        status, output = run_tool("visualization", *words, *more)
        assert status == 2 and told in output.splitlines()[-1]


def test_run_net_draws_nothing_that_tensorboard_does_not_enable(run_tool, tiny_file, tiny_cfg):
    words = ["TRAIN.ENABLE", False, "TEST.ALLOW_RANDOM_WEIGHTS", True, *VIS]
    status, output = run_tool("run_net", "--cfg", tiny_file, *words)
    assert status == 0, output
    assert not (Path(tiny_cfg().OUTPUT_DIR) / "visualization").exists()
    status, output = run_tool("run_net", "--cfg", tiny_file, *words, "TEST.ENABLE", False)
    assert status == 2 and "nothing to do" in output


def test_a_wrong_layer_stops_run_net_before_the_training(run_tool, tiny_file, tiny_cfg):
    words = ["TENSORBOARD.ENABLE", True, *VIS[:3], ["s9/pathway0_res1"], "SOLVER.MAX_EPOCH", 1]
    status, output = run_tool("run_net", "--cfg", tiny_file, *words)
    out = Path(tiny_cfg().OUTPUT_DIR)
    assert status == 2 and "s9/pathway0_res1" in output.splitlines()[-1] and "Traceback" not in output
    assert not (out / "checkpoints").exists() and not (out / "json_stats.jsonl").exists()


@pytest.mark.slow
def test_boxes(run_tool, repo, tmp_path, decode_all):
    """The persons of a key frame are drawn into its clip: the clip of AVA alone has edges in the color of boxes."""
    make_set(tmp_path / "ava", SetSpec("ava", train=1, val=1))
    words = [
        *("NUM_GPUS", 0, "RESNET.WIDTH_PER_GROUP", 4, "DATA_LOADER.NUM_WORKERS", 0, "TEST.ALLOW_RANDOM_WEIGHTS", True),
        *("AVA.FRAME_DIR", tmp_path / "ava" / "frames", "AVA.FRAME_LIST_DIR", tmp_path / "ava" / "frame_lists"),
        *("AVA.ANNOTATION_DIR", tmp_path / "ava" / "annotations", "AVA.TRAIN_PREDICT_BOX_LISTS", "[]"),
        *("AVA.TEST_PREDICT_BOX_LISTS", f"['{BOXES}']", "MODEL.NUM_CLASSES", 9, "TRAIN.CHECKPOINT_FILE_PATH", ""),
        *("DATA.TRAIN_CROP_SIZE", 32, "DATA.TEST_CROP_SIZE", 32, "DATA.TRAIN_JITTER_SCALES", "[32, 40]"),
        *("OUTPUT_DIR", tmp_path / "out", "TENSORBOARD.MODEL_VIS.ENABLE", True),
        *("TENSORBOARD.MODEL_VIS.GRAD_CAM.LAYER_LIST", "[s3]", "TENSORBOARD.MODEL_VIS.GRAD_CAM.USE_TRUE_LABEL", True),
    ]
    status, output = run_tool("visualization", "--cfg", repo / "configs/AVA/SLOW_8x8_R50_SHORT.yaml", *words)
    assert status == 0, output
    clips = sorted((tmp_path / "out" / "visualization").rglob("*.mp4"))
    assert len(clips) > 5
    orange = np.array([255, 140, 0])
    edges = [np.abs(decode_all(clip)[0].astype(int) - orange).max(axis=-1) < 60 for clip in clips]
    assert all(found.any() for found in edges)
