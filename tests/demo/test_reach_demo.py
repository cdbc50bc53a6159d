"""The measurement of how far memory reaches: its parts on tiny sets, what is kept, and the page of its results."""

import json
from pathlib import Path

import pytest
import torch

from pgt import StepPlan
from pgt.memory import CACHE_POLICIES
from pgt.operators.layers import MarkovOperator
from pgt.task import step_scores
from slowfast.checkpoint.io import find_checkpoints
from slowfast.config import activate_projects, load_config
from slowfast.datasets.video.open import open as open_video
from slowfast.models import build_model

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def reach(demo_module):
    """`reach(name)`: import a file of the measurement."""
    return lambda name: demo_module(name)


class Parts:
    """Stands in for the processes: counts them, and lets `answer` write what they would."""

    def __init__(self, answer):
        self.titles, self.answer = [], answer

    def run(self, title, command, log, progress=None):
        self.titles.append(title)
        self.answer([str(word) for word in command])


@pytest.fixture
def measure(reach, monkeypatch, tmp_path):
    """`measure(answer, *arguments)`: run the quick measurement; return its status and the titles of its parts."""
    module, jobs = reach("memory_reach"), reach("sweep_jobs")

    def start(answer, *arguments):
        parts = Parts(answer)

        def run(self, title, command, log, progress=None):
            parts.run(title, command, log)
            return jobs.Usage(1.0, 1.0, 2.0)

        monkeypatch.setattr(jobs.Workshop, "run", run)
        options = ["--quick", "--output", str(tmp_path), "--results", str(tmp_path / "results.json"), "--workers", "1"]
        return module.main([*options, *arguments]), parts.titles

    return start


def pretend(command: list[str]) -> None:
    """Write the results of a part, without its work."""
    words = dict(zip(command, command[1:], strict=False))
    if "--gaps" in words:
        gaps = [{"gap": 1, "minutes": 0.1, "answers": 2, "both": 50.0, "first": 50.0, "second": 100.0}]
        Path(words["--output"]).write_text(json.dumps({"gaps": gaps}))
    elif "--sets" in words:
        Path(words["--output"]).write_text(json.dumps({"steps_5": {"last": 25.0, "sum": 75.0}}))
    else:
        folder = Path(words["OUTPUT_DIR"])
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "checkpoints/checkpoint_epoch_00001.pyth").touch()
        rows = [{"_type": "train_iter", "iter": "1/2"}, {"_type": "train_epoch", "epoch": "1/1", "epoch_seconds": 3.0}]
        (folder / "json_stats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_what_is_complete_is_kept_and_what_is_missing_is_run(measure, tmp_path, capsys):
    arguments = ("--seeds", "3", "--variants", "max", "slots")
    parts = ["max (seed 3)", "max (seed 3): gaps", "max (seed 3): lengths", "slots (seed 3)"]
    parts += ["slots (seed 3): gaps", "slots (seed 3): lengths", "max (seed 3): hour"]
    assert measure(pretend, *arguments) == (0, parts)
    first = json.loads((tmp_path / "results.json").read_text())["runs"]
    assert [(run["variant"], run["seed"], run["updates"], run["cpu_seconds"]) for run in first] == [
        ("max", 3, 2, 2.0),
        ("slots", 3, 2, 2.0),
    ]
    assert first[0]["hour"]["gaps"] and "hour" not in first[1] and first[0]["machine"]

    assert measure(pretend, *arguments) == (0, [])
    assert "missing: nothing" in capsys.readouterr().out
    assert json.loads((tmp_path / "results.json").read_text())["runs"] == first

    # Without the results file, the folders still hold what is complete.
    (tmp_path / "results.json").unlink()
    (tmp_path / "16_seed_3/max/hour.json").unlink()
    assert measure(pretend, *arguments) == (0, ["max (seed 3): hour"])

    # A run that was killed between its two tests lacks the other one.
    (tmp_path / "results.json").write_text(json.dumps({"runs": [{"variant": "max", "seed": 3, "hour": {"gaps": []}}]}))
    assert measure(pretend, "--seeds", "3", "--variants", "max", "--list") == (0, [])
    assert "missing: max (seed 3)\n" in capsys.readouterr().out
    (tmp_path / "results.json").write_text(json.dumps({"runs": first}))

    assert measure(pretend, *arguments, "--seeds", "3", "4", "--list") == (0, [])
    assert "missing: max (seed 4), slots (seed 4), an hour of max (seed 4)\n" in capsys.readouterr().out


def test_a_part_that_fails_loses_nothing(measure, reach, tmp_path, capsys):
    jobs = reach("sweep_jobs")

    def fail(command):
        if "--sets" in command:
            raise jobs.JobError("out of disk")
        pretend(command)

    arguments = ("--seeds", "0", "--variants", "slots")
    status, titles = measure(fail, *arguments)
    assert status == 1 and titles[-1] == "slots (seed 0): lengths"
    assert "out of disk" in capsys.readouterr().err
    assert measure(pretend, *arguments) == (0, ["slots (seed 0): lengths"])


@pytest.fixture
def run_part(run_tool, reach):
    """Run a part of the measurement in this process."""

    def run(command: list[str]) -> None:
        _, tool, *words = command
        if Path(tool).parent.name == "tools":
            assert run_tool("run_net", *words)[0] == 0
        else:
            reach(Path(tool).stem).main(words)

    return run


def test_every_part_runs(measure, run_part, reach, tmp_path):
    """Train, test on streams and on videos, draw: with real videos, a real training and a real checkpoint."""
    status, titles = measure(run_part, "--seeds", "0", "--variants", "max")
    assert status == 0 and len(titles) == 4
    (run,) = json.loads((tmp_path / "results.json").read_text())["runs"]
    plan = reach("reach_plan")
    scale = plan.QUICK_SCALE
    for kind, streams in (("gaps", scale.gaps), ("hour", scale.hour)):
        rows = run[kind]["gaps"]
        assert [row["gap"] for row in rows] == list(streams.gaps)
        assert {row["answers"] for row in rows} == {streams.count * streams.forks}
        # 7 frames a step, 4 frames a second
        assert [row["minutes"] for row in rows] == pytest.approx([gap * 7 / 4 / 60 for gap in streams.gaps], abs=1e-3)
        assert all(row["both"] <= min(row["first"], row["second"]) for row in rows)
    assert set(run["lengths"]) == {"steps_5", "steps_6"}
    assert {result["videos"] for result in run["lengths"].values()} == {scale.test}
    for folder, frames in (("videos_16_1/overlap_1/steps_5", 36), ("videos_1_6/overlap_1/steps_6", 43)):
        with open_video(str(next((tmp_path / folder / "videos/train").iterdir()))) as video:
            assert video.num_frames == frames

    results = ["--results", str(tmp_path / "results.json"), "--figure", str(tmp_path / "reach.png")]
    reach("reach_report").main(results)
    assert (tmp_path / "reach.png").stat().st_size > 10_000

    check_streams(reach("reach_stream"), find_checkpoints(str(tmp_path / "16_seed_0/max"))[-1].path)


def check_streams(module, checkpoint: str) -> None:
    """Events are in the steps that the gaps say, and forks leave their streams as they were."""
    predictor, drawn, states = module.load(checkpoint), [], []

    class Scene(module.Scene):
        def draw(self, frames, event=None):
            if event is not None:
                drawn.append((frames, event))
            return super().draw(frames, event)

    def fork(pool, streams, *arguments):
        before = [stream.state() for stream in streams]
        right = forks(pool, streams, *arguments)
        states.append((before, [stream.state() for stream in streams]))
        return right

    with pytest.MonkeyPatch.context() as patch:
        forks = module._right_forks
        patch.setattr(module, "Scene", Scene)
        patch.setattr(module, "_right_forks", fork)
        module.run_streams(predictor, gaps=[1, 4], count=2, forks=2)
    ranges = StepPlan((8,), (1,), 20).frame_ranges()
    lead = module.LEAD_STEPS
    steps = [lead] * 2 + [lead + 1] * 4 + [lead + 4] * 4
    assert [ranges.index(frames) for frames, _ in drawn] == steps
    assert all(set(event.frames) <= set(frames) for frames, event in drawn)
    for before, after in states:
        for old, new in zip(before, after, strict=True):
            assert old["count"] == new["count"]
            assert all(torch.equal(old["memory"][name], new["memory"][name]) for name in old["memory"])


@pytest.mark.parametrize(("variant", "reaches"), [("last", False), ("max", True), ("avg", True)])
def test_last_hands_over_one_step_and_the_others_all(reach, variant, reaches):
    """Whatever the weights: with `last` a step's answer does not depend on what was two steps before."""
    plan_file = reach("reach_plan")
    (chosen,) = [one for one in plan_file.VARIANTS if one.name == variant]
    torch.manual_seed(0)
    cfg = load_config(str(plan_file.CFG), chosen.settings)
    activate_projects(cfg)
    model, plan = build_model(cfg).eval(), StepPlan.from_config(cfg)
    clip = torch.randn(1, 3, plan.num_frames, 32, 32)
    other = clip.clone()
    # Four layers of kernel 3 see one frame before each: of the step before, the last five frames count, as in a clip.
    other[:, :, : plan.frame_ranges()[-2].stop - 5] = 0
    with torch.no_grad():
        same = torch.equal(step_scores(model, [clip], plan)[-1], step_scores(model, [other], plan)[-1])
    assert same is not reaches


@pytest.mark.parametrize(
    ("rule", "overlap", "shares"),
    [
        ("last", 1, (0, 0.25, 0.5, 0.9)),
        ("avg", 1, (1 / 8, 0.25 + 0.75 / 8, 0.5 + 0.5 / 8, 0.9 + 0.1 / 8)),
        ("avg", 2, (1 / 5, 0.4, 0.6, 0.92)),
        ("avg", 4, (1 / 3, 0.5, 2 / 3, 0.9 + 0.1 / 3)),
        ("max", 1, (1, 1, 1, 1)),
        ("max", 4, (1, 1, 1, 1)),
    ],
)
def test_the_share_of_memory_that_a_step_keeps_is_as_the_page_says(rule, overlap, shares):
    """Seven new frames of zeros: what is left of a memory of ones, from step to step, in the long run."""
    for momentum, share in zip((0, 0.25, 0.5, 0.9), shares, strict=True):
        policy, memory = (
            CACHE_POLICIES.get(rule)(overlap, momentum),
            torch.ones(1, 1, overlap, 1, 1, dtype=torch.double),
        )
        peaks = []
        for _ in range(300):
            memory = policy.update(torch.zeros(1, 1, 7, 1, 1, dtype=torch.double), memory)
            peaks.append(memory.max().item())
        assert peaks[-1] == pytest.approx(share * peaks[-2], rel=1e-4)


def test_variants_differ_in_memory_alone(reach):
    plan = reach("reach_plan")
    assert len({variant.name for variant in plan.VARIANTS}) == len(plan.VARIANTS)
    for variant in plan.VARIANTS:
        cfg = load_config(str(plan.CFG), variant.settings)
        assert StepPlan.from_config(cfg).num_frames == plan.FULL_SCALE.training_set(variant).num_frames
        assert [len(frames) for frames in StepPlan.from_config(cfg).frame_ranges()[1:]] == [7] * (variant.steps - 1)
    for count in (1, 2):
        (chosen,) = [one for one in plan.VARIANTS if one.name == f"max_layers_{count}_scratch"]
        model = build_model(load_config(str(plan.CFG), chosen.settings))
        remembering = [module for module in model.modules() if isinstance(module, MarkovOperator) and module.policy]
        assert len(remembering) == count + 1  # and the head
    drawn = {name for _, _, names in plan.PANELS for name in names}
    assert drawn <= {variant.name for variant in plan.VARIANTS}


def test_right_answers_are_counted_by_event(reach):
    classes = torch.eye(6)
    # right-left, right-down, left-right, ...: 0 and 1 have the first event in common, 0 and 5 the second.
    assert reach("reach_score").right_answers(classes[[0, 1, 5, 3]], torch.tensor([0, 0, 0, 0])) == {
        "both": 1,
        "first": 2,
        "second": 2,
    }


def test_tables_have_mean_and_deviation_over_seeds(reach):
    gaps = [[{"gap": 1, "both": 90.0}, {"gap": 64, "both": both}] for both in (40.0, 60.0)]
    runs = [{"variant": "avg", "seed": seed, "gaps": {"gaps": rows}} for seed, rows in enumerate(gaps)]
    lines = reach("reach_report").table(runs, "gaps").splitlines()
    assert lines[0] == "|  | seeds | 1 | 64 |" and lines[2] == "| avg | 2 | 90 ± 0 | 50 ± 14 |"
    assert len(lines) == 3


def test_the_page_has_the_tables_of_the_results(reach):
    report = reach("reach_report")
    runs = json.loads(report.RESULTS.read_text())["runs"]
    page = (ROOT / "docs/memory_reach.md").read_text()
    for kind in (report.GAPS, report.LENGTHS, report.SUMS, report.HOUR):
        table = report.table(runs, kind)
        if report.curves(runs, kind):
            assert table in page, f"paste what demo/reach_report.py prints into the page: {kind}"
    assert f"{len(runs)} of them are measured" in page
