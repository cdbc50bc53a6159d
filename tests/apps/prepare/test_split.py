"""Parts of one video stay in one split, and every class is in every split where it can be."""

import pytest

from slowfast.apps.prepare.split import Video, group, source_name, split_groups


@pytest.mark.parametrize(
    ("name", "source", "kind"),
    [
        ("v_Basketball_g01_c02", "v_Basketball_g01", "part"),
        ("v_Basketball_g01_c02_part3", "v_Basketball_g01", "part"),
        ("-b_1_2_3_4b_000012_000022", "-b_1_2_3_4b", "part"),
        ("beach-clip_0001", "beach", "part"),
        ("my trip Part1", "my trip", "part"),
        ("game.scene.7", "game", "part"),
        ("tokyo_12", "tokyo", "number"),
        ("tokyo (2)", "tokyo", "number"),
        # 8 digits and 6 are a date and a time, not seconds.
        ("VID_20260102_120000", "VID_20260102", "number"),
        ("clip_0001", "clip_0001", "file"),
        ("IMG_0042", "IMG_0042", "file"),
        ("0042", "0042", "file"),
        ("part1", "part1", "file"),
        ("high jump_7", "high jump_7", "file"),
        ("High-Jump_clip_7", "High-Jump_clip_7", "file"),
        ("tokyo12", "tokyo12", "file"),
        ("apart1", "apart1", "file"),
    ],
)
def test_the_name_of_the_source(name, source, kind):
    assert source_name(name, "high_jump") == (source, kind)


def videos(*places, label=0):
    return [Video(f"/{label}/{place}", place, label, f"{label} {place}") for place in places]


def together(groups):
    return {frozenset(video.path for video in members) for members in groups}


def test_groups_within_and_across_classes():
    walk = videos("beach_part1.mp4", "park_1.mp4", "park_2.avi", "park.mp4", "a.mp4", "anna/1.mp4", "anna/2.mp4")
    run = videos("beach_part2.mp4", "park_3.mp4", "a.mp4", "b.mp4", "anna/1.mp4", label=1)
    copy = Video("/1/c.mp4", "c.mp4", 1, "0 a.mp4")
    assert together(group([*walk, *run, copy], ["walk", "run"])) == {
        frozenset({"/0/beach_part1.mp4", "/1/beach_part2.mp4"}),
        frozenset({"/0/park_1.mp4", "/0/park_2.avi", "/0/park.mp4"}),
        frozenset({"/1/park_3.mp4"}),
        frozenset({"/0/anna/1.mp4", "/0/anna/2.mp4"}),
        frozenset({"/1/anna/1.mp4"}),
        frozenset({"/0/a.mp4", "/1/c.mp4"}),
        frozenset({"/1/a.mp4"}),
        frozenset({"/1/b.mp4"}),
    }


def test_numbers_that_count_all_videos_of_a_class_show_no_parts():
    counted = videos("tour_1.mp4", "tour_2.mp4", "tour_3.mp4")
    assert len(group(counted, ["walk"])) == 3
    assert len(group([*counted, *videos("b.mp4")], ["walk"])) == 2
    # A word for a part is no count.
    assert len(group(videos("tour_c1.mp4", "tour_c2.mp4"), ["walk"])) == 1


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shares", [(0.1, 0.1), (0.25, 0.25), (0.5, 0.1)])
def test_shares_are_met_by_class(seed, shares):
    # 40 videos alone, 20 in pairs, and 3 and 2 alone.
    sets = [
        [[video] for video in videos(*(f"v{i}.mp4" for i in range(count)), label=label)]
        for label, count in ((0, 40), (2, 3), (3, 2))
    ]
    pairs = [videos(f"{i}_part1", f"{i}_part2", label=1) for i in range(10)]
    groups = [*(members for own in sets for members in own), *pairs]
    splits = split_groups(groups, dict(zip(("val", "test"), shares, strict=True)), seed)
    place = {video.path: split for split, members in splits.items() for video in members}
    assert len(place) == sum(map(len, splits.values())) == 65
    assert all(len({place[video.path] for video in members}) == 1 for members in groups)
    counts = {
        split: [sum(video.label == label for video in members) for label in range(4)]
        for split, members in splits.items()
    }
    assert counts["val"][0] == 40 * shares[0] and counts["test"][0] == 40 * shares[1]
    assert abs(counts["val"][1] - 20 * shares[0]) <= 1 and abs(counts["test"][1] - 20 * shares[1]) <= 1
    assert [counts[split][2] for split in ("train", "val", "test")] == [1, 1, 1]
    assert [counts[split][3] for split in ("train", "val", "test")] == [1, 1, 0]


def test_the_seed_decides():
    groups = [[video] for video in videos(*(f"v{i}.mp4" for i in range(30)))]
    drawn = [split_groups(groups, {"val": 0.2, "test": 0.2}, seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_large_group_is_not_taken_for_a_small_share():
    groups = [videos(*(f"a_part{i}" for i in range(20))), videos("b"), videos("c")]
    for seed in range(6):
        splits = split_groups(groups, {"val": 0.1, "test": 0.1}, seed)
        assert {split: len(members) for split, members in splits.items()} == {"train": 20, "val": 1, "test": 1}


def test_a_source_of_two_classes_is_in_one_split():
    shared = [videos(f"s{i}_part1") + videos(f"s{i}_part2", label=1) for i in range(3)]
    splits = split_groups([*shared, *([video] for video in videos("x", "y", label=1))], {"val": 0.2, "test": 0.2}, 0)
    assert {split: {video.label for video in members} for split, members in splits.items()} == {
        "train": {0, 1}, "val": {0, 1}, "test": {0, 1},
    }  # fmt: skip
