"""Order of batches: seeds, workers, resuming, ranks."""

import resource

import numpy as np
import pytest
import torch

from slowfast.datasets import DATASET_REGISTRY, ClipDataset, Sample, build_loader
from slowfast.datasets.loading.sampler import EpochBatchSampler
from slowfast.runtime.seed import seeded_generator

WORKERS = "DATA_LOADER.NUM_WORKERS"


def assert_same(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        assert torch.equal(batch.video, other.video)
        assert torch.equal(batch.view, other.view)
        assert torch.equal(batch.labels, other.labels)
        assert all(torch.equal(a, b) for a, b in zip(batch.inputs, other.inputs, strict=True))
        assert batch.unreadable == other.unreadable


def first_sample(batch):
    samples = [*zip(batch.video.tolist(), batch.view.tolist(), strict=True)]
    return min(samples + [(missing.video, missing.view) for missing in batch.missing])


@pytest.fixture
def with_broken_file(tiny_data, tmp_path):
    lines = (tiny_data / "train.csv").read_text().splitlines()
    lines[4] = f"{tmp_path / 'none.mp4'} 1"
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return ["DATA.PATH_TO_DATA_DIR", str(tmp_path)]


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("cached", [False, True])
def test_workers_do_not_change_batches(split, cached, tiny_cfg, with_broken_file, read_epoch):
    common = [*with_broken_file, "DATA.CACHE_VIDEOS", cached, "DATA.MAX_UNREADABLE_FRACTION", 0.5]
    alone = build_loader(tiny_cfg(*common, WORKERS, 0), split)
    helped = build_loader(tiny_cfg(*common, WORKERS, 4), split)
    for epoch in (0, 1):
        batches = read_epoch(alone, epoch)
        assert len(batches) == len(alone)
        assert any(batch.unreadable for batch in batches)
        others = read_epoch(helped, epoch)
        assert_same(batches, others if split == "train" else sorted(others, key=first_sample))


@pytest.mark.parametrize("workers", [0, 2])
def test_resuming_in_mid_epoch(workers, tiny_cfg, read_epoch):
    whole = read_epoch(build_loader(tiny_cfg(WORKERS, workers), "train"), 5)
    assert len(whole) == 3
    assert_same(whole[2:], read_epoch(build_loader(tiny_cfg(WORKERS, workers), "train"), 5, start=2))
    assert read_epoch(build_loader(tiny_cfg(WORKERS, workers), "train"), 5, start=3) == []


def test_skipped_batches_are_not_read(tiny_cfg, read_epoch, monkeypatch):
    loader, asked = build_loader(tiny_cfg(), "train"), []
    dataset = type(loader.dataset)
    sample = dataset.__getitem__
    monkeypatch.setattr(dataset, "__getitem__", lambda self, key: asked.append(key) or sample(self, key))
    read_epoch(loader, 0, start=2)
    assert len(asked) == 4


def test_loading_leaves_the_global_generators_alone(tiny_cfg, read_epoch):
    loader = build_loader(tiny_cfg(WORKERS, 2), "train")
    torch.manual_seed(3)
    np.random.seed(3)
    expected = torch.rand(3), np.random.rand(3)
    torch.manual_seed(3)
    np.random.seed(3)
    read_epoch(loader, 0)
    read_epoch(build_loader(tiny_cfg(), "train"), 1)
    assert torch.equal(torch.rand(3), expected[0])
    assert (np.random.rand(3) == expected[1]).all()


def test_batches_on_the_cpu_are_not_pinned(tiny_cfg):
    assert tiny_cfg().DATA_LOADER.PIN_MEMORY
    assert not build_loader(tiny_cfg(), "train").pin_memory


def test_workers_run_one_thread_and_differ_in_seed(tiny_cfg, read_epoch):
    class Probe(ClipDataset):
        def __init__(self, cfg, split):
            super().__init__(cfg, split, list("abcdefgh"))

        def training_sample(self, video, generator, shape):
            draws = torch.tensor([torch.get_num_threads(), torch.rand(()).item(), np.random.rand()])
            return Sample([draws], 0, video, 0)

        def evaluation_sample(self, video, view):
            raise NotImplementedError

    DATASET_REGISTRY.register("probe")(Probe)
    torch.set_num_threads(2)
    loader = build_loader(tiny_cfg("TRAIN.DATASET", "probe", WORKERS, 2, "TRAIN.BATCH_SIZE", 4), "train")
    first, second = (batch.inputs[0] for batch in read_epoch(loader, 0))
    assert (first[:, 0] == 1).all()
    assert (second[:, 0] == 1).all()
    assert len(torch.unique(torch.cat([first, second])[:, 1])) == 8
    assert len(torch.unique(torch.cat([first, second])[:, 2])) == 8


def indices(sampler):
    return [[index for index, _, _ in batch] for batch in sampler]


def test_order_depends_on_seed_and_epoch():
    def order(seed, epoch):
        sampler = EpochBatchSampler(50, 5, shuffle=True, seed=seed)
        sampler.set_epoch(epoch)
        return sum(indices(sampler), [])

    assert order(1, 0) == order(1, 0)
    assert sorted(order(1, 0)) == list(range(50))
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1, 2)}) == 6


def test_keys_carry_the_epoch():
    sampler = EpochBatchSampler(4, 2, shuffle=False, seed=0)
    sampler.set_epoch(6)
    assert list(sampler) == [[(0, 6, None), (1, 6, None)], [(2, 6, None), (3, 6, None)]]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_training_ranks_share_each_batch(world):
    """Together the processes draw what one process with the whole batch draws, without repeats."""
    whole = indices(EpochBatchSampler(50, 6, shuffle=True, seed=1))
    shares = [indices(EpochBatchSampler(50, 6 // world, True, 1, rank, world)) for rank in range(world)]
    assert all(len(share) == len(whole) == 8 for share in shares)
    for number, batch in enumerate(whole):
        assert sorted(sum((share[number] for share in shares), [])) == sorted(batch)


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_evaluation_ranks_cover_every_sample_once(world):
    samplers = [EpochBatchSampler(23, 4, False, 1, rank, world) for rank in range(world)]
    shares = [sum(indices(sampler), []) for sampler in samplers]
    assert sum(shares, []) == list(range(23))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert [len(sampler) for sampler in samplers] == [len(indices(sampler)) for sampler in samplers]


class WhoMadeIt(ClipDataset):
    """Samples that say which worker of the loader made them."""

    def __init__(self, cfg, split):
        super().__init__(cfg, split, list("abcdefg"), num_views=10)

    def evaluation_sample(self, video, view):
        worker = torch.utils.data.get_worker_info()
        return Sample([torch.tensor(worker.id if worker else 0)], 0, video, view)

    def training_sample(self, video, generator, shape):
        return self.evaluation_sample(video, 0)


class Grouped(WhoMadeIt):
    batch_groups = [index // 10 % 3 for index in range(70)]


DATASET_REGISTRY.register("who_made_it")(WhoMadeIt)
DATASET_REGISTRY.register("grouped")(Grouped)


@pytest.mark.parametrize("name, sizes", [("who_made_it", {4, 2}), ("grouped", {4, 2})])
@pytest.mark.parametrize("workers", [0, 1, 2, 3, 5])
def test_each_worker_makes_a_contiguous_run(name, sizes, workers, tiny_cfg, read_epoch):
    cfg = tiny_cfg("TEST.DATASET", name, "TEST.BATCH_SIZE", 4, WORKERS, workers)
    loader = build_loader(cfg, "test")
    for epoch in (0, 1):  # the workers live on
        batches = read_epoch(loader, epoch)
        assert len(batches) == len(loader) == (18 if name == "who_made_it" else 21)
        assert {batch.size for batch in batches} == sizes
        made = {}
        for batch in batches:
            samples = (batch.video * 10 + batch.view).tolist()
            assert samples == list(range(samples[0], samples[0] + len(samples)))
            for sample, worker in zip(samples, batch.inputs[0].tolist(), strict=True):
                made.setdefault(worker, []).append(sample)
            if name == "grouped":
                assert len(set(batch.video.tolist())) == 1
        assert len(made) == max(workers, 1)
        runs = [made[worker] for worker in sorted(made)]
        assert sum(runs, []) == list(range(70))  # neighbors, and every sample once
        assert max(map(len, runs)) - min(map(len, runs)) <= 2 * 4


def test_a_group_that_comes_again_shares_no_batch_with_its_first_samples():
    groups = [5, 5, 5, 0, 5, 5]
    batches = indices(EpochBatchSampler(6, 2, False, 0, groups=groups))
    assert batches == [[0, 1], [2], [3], [4, 5]]


def test_more_workers_than_batches(tiny_cfg, read_epoch):
    loader = build_loader(tiny_cfg("TEST.DATASET", "who_made_it", "TEST.BATCH_SIZE", 40, WORKERS, 4), "test")
    assert sorted(sum(((b.video * 10 + b.view).tolist() for b in read_epoch(loader, 0)), [])) == list(range(70))


@pytest.mark.parametrize("world", [1, 3])
def test_evaluation_can_start_later(world):
    for rank in range(world):
        sampler = EpochBatchSampler(23, 2, False, 1, rank, world, workers=2)
        whole = indices(sampler)
        sampler.set_epoch(0, 2)
        assert indices(sampler) == whole[2:]


def test_more_processes_than_samples():
    shares = [indices(EpochBatchSampler(2, 4, False, 1, rank, 3)) for rank in range(3)]
    assert sorted(sum(sum(shares, []), [])) == [0, 1]


def test_batches_that_cannot_be():
    with pytest.raises(ValueError, match="3 training videos.*one batch of 4"):
        EpochBatchSampler(3, 2, True, 0, 0, 2)
    with pytest.raises(ValueError, match="0 samples a batch"):
        EpochBatchSampler(3, 0, False, 0)


def test_streams_of_random_numbers_differ():
    seen = set()
    for seed in (0, 1, -1):
        for split in ("train", "test"):
            for epoch in range(3):
                for index in range(3):
                    seen.add(torch.rand((), generator=seeded_generator(seed, split, epoch, index)).item())
    assert len(seen) == 54


def test_too_few_descriptors_for_workers_are_told_at_once(tiny_cfg):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, hard))
    try:
        with pytest.raises(ValueError, match=r"may open 32 files .*NUM_WORKERS 2 it needs 80"):
            build_loader(tiny_cfg("DATA_LOADER.NUM_WORKERS", 2), "train")
        build_loader(tiny_cfg("DATA_LOADER.NUM_WORKERS", 0), "train")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
