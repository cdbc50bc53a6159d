"""Train an LSTM on the features that `tools/extract_features.py` made of each clip of a video, and test it.

    python demo/long_video_lstm.py --features DIR --data DIR --output FILE.json

DIR of --data holds the lists `train.csv`, `val.csv` and `test.csv`. The epoch with the best accuracy on the validation
videos is tested.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from slowfast.apps.features.files import FeatureFolder
from slowfast.utils.files import atomic_write_local

BATCH = 64
WIDTH = 64  # of the LSTM
LEARNING_RATE, WEIGHT_DECAY = 0.003, 0.01

Split = tuple[torch.Tensor, torch.Tensor]  # features (N, clips, C), labels (N,)


class Classifier(nn.Module):
    """LSTM over the clips of a video, with a linear map from its last output."""

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.lstm = nn.LSTM(channels, WIDTH, batch_first=True)
        self.projection = nn.Linear(WIDTH, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features (B, clips, C) to scores (B, classes)."""
        return self.projection(self.lstm(x)[0][:, -1])


def read_split(features: FeatureFolder, csv: Path) -> Split:
    """Read the features of the videos of a list; ValueError if they have different numbers of clips."""
    videos = [line.rsplit(" ", 1) for line in csv.read_text().splitlines()]
    rows = [features.read(path).features for path, _ in videos]
    counts = sorted({len(row) for row in rows})
    if len(counts) > 1:
        raise ValueError(f"{csv}: its videos have {counts} clips; the LSTM takes videos of one length")
    return torch.from_numpy(np.stack(rows)).float(), torch.tensor([int(label) for _, label in videos])


@torch.no_grad()
def accuracy(model: nn.Module, split: Split) -> float:
    """Return the accuracy in percent."""
    model.eval()
    return 100 * (model(split[0]).argmax(dim=1) == split[1]).float().mean().item()


def train(splits: dict[str, Split], classes: int, epochs: int, seed: int) -> dict:
    """Train for `epochs` epochs; return the accuracies of the epoch that is best on `val`, and the CPU seconds."""
    generator = torch.manual_seed(seed)
    x, labels = splits["train"]
    mean, std = x.mean(dim=(0, 1)), x.std(dim=(0, 1)) + 1e-6
    splits = {name: ((features - mean) / std, target) for name, (features, target) in splits.items()}
    model = Classifier(x.shape[2], classes)
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    best, started = {"val": -1.0}, time.process_time()
    for epoch in range(epochs):
        model.train()
        for rows in torch.randperm(len(labels), generator=generator).split(BATCH):
            loss = nn.functional.cross_entropy(model(splits["train"][0][rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        found = accuracy(model, splits["val"])
        if found > best["val"]:
            best = {"val": found, "test": accuracy(model, splits["test"]), "epoch": epoch + 1}
    return {**best, "clips": x.shape[1], "train_cpu_seconds": time.process_time() - started}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--features", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = FeatureFolder(arguments.features)
    splits = {name: read_split(folder, arguments.data / f"{name}.csv") for name in ("train", "val", "test")}
    classes = 1 + max(int(labels.max()) for _, labels in splits.values())
    result = train(splits, classes, arguments.epochs, arguments.seed)
    atomic_write_local(arguments.output, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
