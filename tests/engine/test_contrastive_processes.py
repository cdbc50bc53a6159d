"""Two processes pre-train on their halves of a batch as one does on all of it."""

import subprocess
import sys

import pytest
import torch

from slowfast.config import cfg_to_yaml
from slowfast.models import build_model

pytestmark = pytest.mark.processes

# Frozen norms: statistics of half a batch differ from those of the whole.
COMMON = [
    "TASK", "ssl", "MODEL.MODEL_NAME", "ContrastiveModel", "MODEL.LOSS_FUNC", "contrastive_loss", "MODEL.HEAD_ACT",
    "none", "MODEL.DROPOUT_RATE", 0.0, "DATA.TRAIN_CROP_NUM_TEMPORAL", 2, "BN.NORM_TYPE", "frozen_batchnorm",
    "BN.USE_PRECISE_STATS", False, "CONTRASTIVE.NUM_CLASSES_DOWNSTREAM", 2, "CONTRASTIVE.DIM", 8, "CONTRASTIVE.T", 0.2,
    "CONTRASTIVE.MLP_DIM", 16, "CONTRASTIVE.NUM_MLP_LAYERS", 2, "CONTRASTIVE.QUEUE_LEN", 8,
]  # fmt: skip
METHODS = {
    "moco": ["CONTRASTIVE.SEQUENTIAL", True, "CONTRASTIVE.MOCO_MULTI_VIEW_QUEUE", True],
    "byol": ["CONTRASTIVE.PREDICTOR_DEPTHS", [2], "CONTRASTIVE.LOCAL_SHUFFLE_BN", False],
    "simclr": [],
    "swav": ["CONTRASTIVE.SWAV_QEUE_LEN", 4],
}

# Two iterations on each process's part of the clips; the main process saves what is left.
PROGRAM = """
import sys
import torch
from slowfast.config import load_config
from slowfast.datasets.loading.batch import Batch
from slowfast.engine.model_setup import setup_model, unwrap
from slowfast.engine.optim_step import OptimStep
from slowfast.engine.task import build_task
from slowfast.models import build_model
from slowfast.models.contrastive_losses import shuffled
from slowfast.runtime.distributed import get_rank, get_world_size, reduce_mean
from slowfast.runtime.launch import launch

def train(cfg, given):
    model = build_model(cfg)
    model.load_state_dict(given["weights"][cfg.CONTRASTIVE.TYPE])
    model.knn_mem.reserve(4)
    model = setup_model(model, torch.device("cpu")).train()
    update = OptimStep(model, torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1))
    task = build_task(cfg)
    task.epoch, losses = 1, []
    own = 8 // get_world_size()
    part = slice(own * get_rank(), own * (get_rank() + 1))
    for number, clips in enumerate(given["clips"]):
        task.iteration, task.progress, task.before = number, 20.0 + number, 19.0 + number
        batch = Batch([clips[part]], given["labels"][part], given["video"][part], given["view"][part])
        losses.append(task.train_step(model, batch, update)["loss"])
    return {"state": unwrap(model).state_dict(), "losses": reduce_mean(losses)}

def both(cfg):
    torch.set_num_threads(1)
    folder = cfg.OUTPUT_DIR
    given, out = torch.load(folder + "/given.pt"), {}
    for method in given["weights"]:
        out[method] = train(load_config(f"{folder}/{method}.yaml"), given)
    rows, seen = torch.arange(3.0)[:, None] + 3 * get_rank(), []
    encode = lambda batch: seen.append(batch[0]) or batch[0] * 2
    out["unshuffled"] = shuffled(encode, [rows], True, 1) / 2 - rows
    out["moved"] = not torch.equal(seen[0], rows)
    if get_rank() == 0:
        torch.save(out, f"{folder}/out{get_world_size()}.pt")

if __name__ == "__main__":
    launch(both, load_config(sys.argv[1]), num_procs=int(sys.argv[2]))
"""


def test_two_processes_equal_one_on_the_joint_batch(tiny_cfg, tmp_path):
    weights = {}
    for method, settings in METHODS.items():
        cfg = tiny_cfg(*COMMON, "CONTRASTIVE.TYPE", method, *settings, "OUTPUT_DIR", str(tmp_path))
        (tmp_path / f"{method}.yaml").write_text(cfg_to_yaml(cfg))
        weights[method] = build_model(cfg).state_dict()
    generator = torch.Generator().manual_seed(0)
    torch.save(
        {
            "weights": weights,
            "clips": [torch.randn(8, 3, 4, 32, 32, generator=generator) for _ in range(2)],
            "video": torch.arange(4).repeat_interleave(2),
            "labels": torch.tensor([0, 1, 0, 1]).repeat_interleave(2),
            "view": torch.tensor([0, 1] * 4),
        },
        tmp_path / "given.pt",
    )
    (tmp_path / "program.py").write_text(PROGRAM)
    for processes in (1, 2):
        command = [sys.executable, str(tmp_path / "program.py"), str(tmp_path / "moco.yaml"), str(processes)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    one, two = (torch.load(tmp_path / f"out{processes}.pt") for processes in (1, 2))

    assert two["moved"] and not one["moved"] and not two["unshuffled"].any()
    for method in METHODS:
        for ours, joint in zip(two[method]["losses"], one[method]["losses"], strict=True):
            assert ours.item() == pytest.approx(joint.item(), rel=1e-4, abs=1e-5), method
        before, after = weights[method], two[method]["state"]
        for key, value in one[method]["state"].items():
            assert torch.allclose(after[key], value, rtol=1e-3, atol=1e-5), f"{method}: {key}"
        moved = "backbone.head.projection.projection.0.weight"
        assert not torch.allclose(after[moved], before[moved], rtol=1e-3, atol=1e-5)
        assert after["knn_mem.labels"].tolist() == [0, 1, 0, 1]
