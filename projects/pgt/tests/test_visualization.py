"""PySlowFast's visualization of a progressive model: Grad-CAM step by step, over the frames of each step."""

from pathlib import Path

import pytest
import torch

from slowfast.apps.visualize import run
from slowfast.apps.visualize.gradcam import grad_cam, normalized
from slowfast.apps.visualize.settings import check
from slowfast.datasets.build import build_loader
from slowfast.engine.pictures import PictureWriter

pytest.importorskip("matplotlib")

VIS = "TENSORBOARD.MODEL_VIS"
LAYER = "s3.pathway0_res1"


@pytest.fixture
def cfg(run_cfg):
    """A model that reads clips of 10 frames in steps of 4, 3 and 3."""
    return run_cfg(
        *("PGT.PG_EVAL", True),
        *("NUM_GPUS", 0, "TEST.ALLOW_RANDOM_WEIGHTS", True, "TEST.NUM_ENSEMBLE_VIEWS", 1, "TEST.NUM_SPATIAL_CROPS", 1),
        *("TENSORBOARD.ENABLE", True, f"{VIS}.ENABLE", True, f"{VIS}.GRAD_CAM.LAYER_LIST", [LAYER]),
        *(f"{VIS}.ACTIVATIONS", True, f"{VIS}.LAYER_LIST", [f"{LAYER} 0"]),
    )


def test_maps_and_activations_of_each_step(cfg, tmp_path):
    drawing = run._ModelPictures(cfg, PictureWriter(str(tmp_path), "", []))
    (batch,) = build_loader(cfg, "test")
    drawn = drawing._run(batch)
    # Steps read frames 0-3, 4-6 and 7-9; each map is that of the step's own score, given the memory of the one before.
    memory, truth, model = None, [], drawing.model
    classes = drawn.prediction.scores.argmax(dim=1)
    for frames in (slice(0, 4), slice(4, 7), slice(7, 10)):
        clip = [batch.inputs[0][:, :, frames]]
        before = memory
        maps, _ = grad_cam(
            model, clip, [LAYER], classes, lambda clips, memory=before: model(clips, memory)[0], per_frame=True
        )
        truth.append(maps[0])
        with torch.no_grad():
            _, memory = model(clip, before)
    (found,) = drawn.maps
    torch.testing.assert_close(found, normalized(torch.cat(truth, dim=1)))
    assert found.shape == (2, 10, 32, 32) and found.any()
    (calls,) = drawn.activations.values()
    assert [part.shape[2] for part in calls] == [4, 3, 3]


def test_files(cfg):
    run.visualize(cfg)
    root = Path(cfg.OUTPUT_DIR) / "visualization"
    files = sorted(str(path.relative_to(root / "input_1")) for path in (root / "input_1").rglob("*.*"))
    assert files == [*(f"activations_s3_pathway0_res1_0_step_{step}.png" for step in (1, 2, 3)), "pathway_1.mp4"]


def test_layers_are_checked_without_weights(cfg):
    cfg.defrost()
    cfg.TEST.ALLOW_RANDOM_WEIGHTS = False
    check(cfg)
    cfg.TENSORBOARD.MODEL_VIS.GRAD_CAM.LAYER_LIST = ["s3.pathway0_res9"]
    with pytest.raises(ValueError, match="no layer 's3.pathway0_res9'.*s3.pathway0_res"):
        check(cfg)


def test_boxes_in_steps_are_refused(cfg):
    cfg.defrost()
    cfg.DETECTION.ENABLE = True
    cfg.freeze()
    with pytest.raises(ValueError, match="boxes of a model that reads clips in steps"):
        run.visualize(cfg)
