"""Two processes train progressively as one does on the joint batch, and exchange gradients once an update."""

import subprocess
import sys

import pytest
import torch

from slowfast.config import load_config
from slowfast.config.load import cfg_to_yaml
from slowfast.datasets.loading.batch import Batch
from slowfast.engine.optim_step import OptimStep
from slowfast.engine.task import build_task
from slowfast.models import build_model

pytestmark = pytest.mark.processes

MASKFEAT = [
    "MODEL.MODEL_NAME", "MaskMViT", "MODEL.ARCH", "mvit", "MODEL.LOSS_FUNC", "multi_mse", "MASK.ENABLE", True,
    "MASK.PRETRAIN_DEPTH", [0], "AUG.GEN_MASK_LOADER", True, "AUG.MASK_WINDOW_SIZE", [10, 4, 4], "AUG.MASK_RATIO", 0.9,
    "MVIT.DEPTH", 1, "MVIT.EMBED_DIM", 16, "MVIT.PATCH_KERNEL", [2, 8, 8], "MVIT.PATCH_STRIDE", [2, 8, 8],
    "MVIT.PATCH_PADDING", [0, 0, 0], "PGT.OVERLAP", [2], "DATA.NUM_FRAMES", 20,
]  # fmt: skip

# Each process trains on its half of the batch that the test saved; the main one saves what came out.
PAIR = """
import sys
import torch
from slowfast.config import activate_projects, load_config
from slowfast.datasets.loading.batch import Batch
from slowfast.engine.model_setup import setup_model, unwrap
from slowfast.engine.optim_step import OptimStep
from slowfast.engine.task import build_task
from slowfast.models import build_model
from slowfast.runtime.distributed import get_rank
from slowfast.runtime.launch import launch

def pair(cfg):
    torch.set_num_threads(1)
    activate_projects(cfg)
    given = torch.load(cfg.OUTPUT_DIR + "/given.pt")
    model = build_model(cfg)
    model.load_state_dict(given["weights"])
    model = setup_model(model, torch.device("cpu"))
    exchanged = count_exchanges(model)
    half = slice(get_rank(), get_rank() + 1)
    labels = given["labels"][half]
    mask = None if given["mask"] is None else given["mask"][half]
    batch = Batch([clip[half] for clip in given["clips"]], labels, labels, labels, mask=mask)
    update = OptimStep(model, torch.optim.SGD(model.parameters(), lr=0.05))
    build_task(cfg).train_step(model, batch, update)
    if get_rank() == 0:
        total = sum(p.numel() for p in model.parameters())
        out = {"weights": unwrap(model).state_dict(), "exchanges": sum(exchanged) / total}
        torch.save(out, cfg.OUTPUT_DIR + "/out.pt")

if __name__ == "__main__":
    launch(pair, load_config(sys.argv[1]), num_procs=2)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "exchanges"),
    [
        (["PGT.TRAIN_TOGETHER", True], 1),
        (["PGT.TRAIN_TOGETHER", False], 3),
        (["PGT.TRAIN_TOGETHER", True, "PGT.FULL_GRADIENT", True], 1),
        ([*MASKFEAT, "PGT.TRAIN_TOGETHER", True], 1),
        (["PGT.TRAIN_TOGETHER", False, "PGT.CACHE", "gate"], 3),
        (["PGT.TRAIN_TOGETHER", False, "PGT.GRADIENT_STEPS", 2, "PGT.CACHE", "slots"], 2),
        (["PGT.TRAIN_TOGETHER", True, "PGT.CACHE", "gate", "PGT.MEMORY", False], 1),
    ],
    ids=["together", "per_step", "full_gradient", "masked", "gate", "slots_in_groups", "gate_without_memory"],
)
def test_two_processes_equal_one(
    settings, exchanges, progressive_settings, random_clip, parity, tmp_path, exchange_counter
):
    overrides = progressive_settings("slow", *settings, "BN.NORM_TYPE", "frozen_batchnorm", "OUTPUT_DIR", str(tmp_path))
    cfg = load_config(None, overrides)
    model = parity.fill_module(build_model(cfg)).train()
    clips, labels = random_clip(cfg), torch.tensor([1, 3])
    mask = torch.arange(2 * 10 * 4 * 4).view(2, 10, 4, 4) % 10 > 0 if cfg.AUG.GEN_MASK_LOADER else None
    given = {"weights": model.state_dict(), "clips": clips, "labels": labels, "mask": mask}
    torch.save(given, tmp_path / "given.pt")
    (tmp_path / "cfg.yaml").write_text(cfg_to_yaml(cfg))
    (tmp_path / "pair.py").write_text(exchange_counter + PAIR)
    subprocess.run([sys.executable, tmp_path / "pair.py", tmp_path / "cfg.yaml"], check=True, timeout=120)

    update = OptimStep(model, torch.optim.SGD(model.parameters(), lr=0.05))
    build_task(cfg).train_step(model, Batch(clips, labels, labels, labels, mask=mask), update)
    out = torch.load(tmp_path / "out.pt")
    assert out["exchanges"] == exchanges
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(out["weights"][name], weight, rtol=1e-4, atol=1e-6)
