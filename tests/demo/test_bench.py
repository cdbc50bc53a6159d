"""`make bench`: every part of the long-video benchmark runs, and memory beats no memory."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.usefixtures("can_draw_scenes")
def test_make_bench(tmp_path):
    recipe = subprocess.run(["make", "--dry-run", "bench"], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    commands = [shlex.split(line) for line in recipe.replace("\\\n", " ").splitlines() if "long_video.py" in line]
    assert len(commands) == 2
    # As if an iteration took 0.3 seconds on any machine, so that it does not decide how long the trainings are.
    costs = tmp_path / "results/sweep_180s/costs"
    costs.mkdir(parents=True)
    where = {"date": "2026-11-30T12:00:00+00:00", "machine": {"processor": "any"}, "versions": {"torch": "any"}}
    cost = {"seconds": 0.3, "joules": None, "peak_mib": 20.0, "gflops": 0.04}
    for method in ("pgt_max", "memory_off"):
        facts = {"set": "sweep", "backbone": "slow", "method": method, **cost, **where}
        (costs / f"slow_{method}.json").write_text(json.dumps(facts))
    for _, program, *words in commands:
        words[words.index("--results") + 1] = str(tmp_path / "results")
        done = subprocess.run(
            [sys.executable, ROOT / program, *words, "--output", tmp_path], capture_output=True, text=True, cwd=tmp_path
        )
        assert done.returncode == 0, done.stdout + done.stderr
    folders = {"tiny_0s": 2 * 12, "sweep_180s": 2}  # two backbones and all methods; one and two
    for folder, count in folders.items():
        runs = [json.loads(path.read_text()) for path in (tmp_path / "results" / folder).glob("*.json")]
        assert len({(run["backbone"], run["method"]) for run in runs}) == len(runs) == count
    assert {run["epochs"] for run in runs} == {8}
    right = {run["method"]: run["tests"]["whole video"]["accuracy"] for run in runs}
    assert right["pgt_max"] - right["memory_off"] >= 20
