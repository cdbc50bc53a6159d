"""Published settings of AVA, trained and tested on a small set in its format."""

import json

import pytest

from slowfast.apps.synthetic.formats import SetSpec, make_set
from slowfast.datasets.build import build_dataset
from slowfast.evaluation import evaluate_ava_files

BOXES = "person_box_67091280_iou90/ava_detection_val_boxes_and_labels.csv"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("ava") / "set"
    make_set(path, SetSpec("ava", train=2, val=1))
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "evaluation"),
    [
        ("configs/AVA/SLOW_8x8_R50_SHORT.yaml", "pyslowfast"),
        ("projects/pgt/configs/AVA/SLOW_PROG_36x8_R50_K400.yaml", "activitynet"),
    ],
)
def test_a_published_setting_of_ava(run_tool, repo, folder, tmp_path, file, evaluation):
    out = tmp_path / "out"
    settings = [
        *("NUM_GPUS", 0, "OUTPUT_DIR", out, "RESNET.WIDTH_PER_GROUP", 4, "DATA_LOADER.NUM_WORKERS", 0),
        *("AVA.FRAME_DIR", folder / "frames", "AVA.FRAME_LIST_DIR", folder / "frame_lists"),
        *("AVA.ANNOTATION_DIR", folder / "annotations", "AVA.TEST_PREDICT_BOX_LISTS", f"['{BOXES}']"),
        *("AVA.TRAIN_PREDICT_BOX_LISTS", "[]", "MODEL.NUM_CLASSES", 9, "TRAIN.BATCH_SIZE", 4, "SOLVER.MAX_EPOCH", 1),
        *("DATA.TRAIN_CROP_SIZE", 32, "DATA.TEST_CROP_SIZE", 32, "DATA.TRAIN_JITTER_SCALES", "[32, 40]"),
        *("SOLVER.WARMUP_EPOCHS", 0.0, "TRAIN.CHECKPOINT_FILE_PATH", "", "BN.NORM_TYPE", "batchnorm"),
        *("AVA.EVALUATION", evaluation),
    ]
    status, output = run_tool("run_net", "--cfg", repo / file, *settings)
    assert status == 0, output
    results = json.loads((out / "test_results.json").read_text())
    again = evaluate_ava_files(out / "groundtruth.csv", out / "detections.csv", evaluation=evaluation)
    assert (
        results["ava_evaluation"] == json.loads((out / "val_results.json").read_text())["ava_evaluation"] == evaluation
    )
    logged = [json.loads(line) for line in (out / "json_stats.jsonl").read_text().splitlines()]
    assert [line["ava_evaluation"] for line in logged if "ava_map" in line] == [evaluation] * 2
    assert results["ava_map"] == pytest.approx(again["mAP@0.5"], abs=1e-6)
    # As PySlowFast's scripts read them.
    assert (out / "detections_latest.csv").read_text() == (out / "detections.csv").read_text()
    rows = [json.loads(line.removeprefix("json_stats: ")) for line in (out / "json_stats.log").read_text().splitlines()]
    assert rows[-1] == {"mode": "test", "map": pytest.approx(results["ava_map"], rel=1e-5)}
    (val,) = [row for row in rows if row.get("_type") == "val_epoch"]
    assert val["map"] == val["ava_map"] and (val["mode"], val["cur_epoch"]) == ("val", "1")
    assert results["unreadable_files"] == 0 and results["key_frames"] > 5 > results["videos"] > 0


@pytest.mark.parametrize(("split", "key"), [("train", "TRAIN.DATASET"), ("test", "TEST.DATASET")])
def test_a_data_set_without_boxes(tiny_cfg, split, key):
    cfg = tiny_cfg("DETECTION.ENABLE", True)
    with pytest.raises(ValueError, match=f"{key} kinetics has no boxes.*DETECTION.ENABLE False"):
        build_dataset(cfg, split)
