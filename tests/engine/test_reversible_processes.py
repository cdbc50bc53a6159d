"""Two processes train a reversible MViT as one process does by ordinary backpropagation."""

import subprocess
import sys

import pytest
import torch

from slowfast.config import cfg_to_yaml, load_config
from slowfast.engine.optim_step import OptimStep
from slowfast.engine.task import ClipTask
from slowfast.models import build_model

pytestmark = pytest.mark.processes

# Case -> settings. Masks of drop path and dropout are drawn again for the recomputation, or are kept.
CASES = {
    "plain": ["MVIT.DROPPATH_RATE", 0.0],
    "dropping": ["MVIT.DROPPATH_RATE", 0.5, "MVIT.DROPOUT_RATE", 0.3],
    "checkpointed": ["MVIT.DROPPATH_RATE", 0.5, "MVIT.DROPOUT_RATE", 0.3, "MODEL.ACT_CHECKPOINT", True],
}
# Two iterations on each process's half of the clips; each half has its own random numbers.
PROGRAM = """
import sys
import torch
from slowfast.config import load_config
from slowfast.datasets.loading.batch import Batch
from slowfast.engine.model_setup import ModelSetup, setup_model, unwrap
from slowfast.engine.optim_step import OptimStep
from slowfast.engine.task import ClipTask
from slowfast.models import build_model
from slowfast.runtime.distributed import get_rank
from slowfast.runtime.launch import launch

def train(cfg):
    torch.set_num_threads(1)
    rank, folder, out = get_rank(), cfg.OUTPUT_DIR, {}
    given = torch.load(folder + "/given.pt")
    for case in given["cases"]:
        cfg = load_config(f"{folder}/{case}.yaml")
        model = build_model(cfg)
        model.load_state_dict(given["weights"])
        model = setup_model(model, torch.device("cpu"), ModelSetup.from_config(cfg)).train()
        update = OptimStep(model, torch.optim.SGD(model.parameters(), lr=0.1))
        half = slice(2 * rank, 2 * rank + 2)
        for number, (clips, labels) in enumerate(zip(given["clips"], given["labels"])):
            torch.manual_seed(10 * number + rank)
            ClipTask(cfg).train_step(model, Batch([clips[half]], labels[half], labels[half], labels[half]), update)
        out[case] = unwrap(model).state_dict()
    if rank == 0:
        torch.save(out, folder + "/out.pt")

if __name__ == "__main__":
    launch(train, load_config(sys.argv[1]), num_procs=2)
"""


@pytest.mark.slow
def test_two_processes_equal_one(tiny_mvit, parity, tmp_path):
    common = [
        *tiny_mvit, "MVIT.REV.ENABLE", True, "MVIT.REV.BUFFER_LAYERS", [1], "MVIT.DEPTH", 4, "MVIT.CLS_EMBED_ON", False,
        "NUM_GPUS", 0, "OUTPUT_DIR", str(tmp_path),
    ]  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    clips = [torch.randn(4, 3, 8, 32, 32, generator=generator) for _ in range(2)]
    labels = [torch.tensor([0, 1, 2, 0]), torch.tensor([1, 0, 2, 3])]
    configs = {case: load_config(None, [*common, *settings]) for case, settings in CASES.items()}
    weights = parity.fill_module(build_model(configs["plain"])).state_dict()
    torch.save({"cases": [*CASES], "weights": weights, "clips": clips, "labels": labels}, tmp_path / "given.pt")
    for case, cfg in configs.items():
        (tmp_path / f"{case}.yaml").write_text(cfg_to_yaml(cfg))
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, str(tmp_path / "program.py"), str(tmp_path / "plain.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    out = torch.load(tmp_path / "out.pt")

    for case, cfg in configs.items():
        model = build_model(cfg).train()
        model.load_state_dict(weights)
        model.rev_backbone.recompute = False
        update = OptimStep(model, torch.optim.SGD(model.parameters(), lr=0.1))
        loss = ClipTask(cfg).loss
        for number, (clip, label) in enumerate(zip(clips, labels, strict=True)):
            losses = []
            for rank, half in enumerate((slice(0, 2), slice(2, 4))):
                torch.manual_seed(10 * number + rank)
                losses.append(loss(model([clip[half]]), label[half]))
            update.backward(sum(losses) / 2)
            update()
        torch.testing.assert_close(out[case], dict(model.state_dict()), rtol=1e-4, atol=1e-5)
        for key in (f"rev_backbone.layers.{block}.G.mlp.fc1.weight" for block in range(4)):
            assert (value := out[case][key] - weights[key]).abs().max() > 1e-3, (key, value)
    # The masks count, and checkpointing changes nothing.
    assert all(torch.equal(out["dropping"][key], value) for key, value in out["checkpointed"].items())
    assert not torch.equal(out["plain"]["head.projection.weight"], out["dropping"]["head.projection.weight"])
