"""Features of whole videos equal direct calls of the model; files are found again, whole or not at all."""

import functools
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from slowfast.apps.features.extract import FeatureOptions, extract
from slowfast.apps.features.files import FeatureFolder, about_features, load_features
from slowfast.datasets.build import build_dataset
from slowfast.datasets.loading.unreadable import UnreadableError
from slowfast.datasets.video.open import open as open_video

SLOWFAST = [
    "MODEL.MODEL_NAME", "SlowFast", "MODEL.ARCH", "slowfast", "DATA.INPUT_CHANNEL_NUM", [3, 3], "SLOWFAST.ALPHA", 2,
    "SLOWFAST.BETA_INV", 2,
    "RESNET.NUM_BLOCK_TEMP_KERNEL", [[2, 2]] * 4, "RESNET.SPATIAL_STRIDES", [[1, 1], *[[2, 2]] * 3],
    "RESNET.SPATIAL_DILATIONS", [[1, 1]] * 4, "NONLOCAL.LOCATION", [[[], []]] * 4, "NONLOCAL.GROUP", [[1, 1]] * 4,
]  # fmt: skip


@pytest.fixture
def filled(saved_weights, tiny_cfg):
    """`filled(*overrides) -> (cfg, model)`: save filled weights of the tiny config's model."""
    return functools.partial(saved_weights, tiny_cfg)


@torch.no_grad()
def direct(model, clips, kind="pooled"):
    """Rows of `forward_features`, one clip at a time."""
    rows = []
    for clip in clips:
        features = model.forward_features([pathway[None] for pathway in clip])
        rows.append(torch.cat([f.mean(2 if kind == "spatial" else (2, 3, 4)) for f in features], dim=1))
    return torch.cat(rows).numpy()


def contents(folder):
    """Every feature file by its path in the folder."""
    files = [os.path.join(top, name) for top, _, names in os.walk(folder / "videos") for name in names]
    return {os.path.relpath(path, folder): open(path, "rb").read() for path in files}


@pytest.mark.parametrize("kind", ["pooled", "spatial"])
@pytest.mark.parametrize("overrides", [[], SLOWFAST], ids=["slow", "slowfast"])
def test_views_are_those_of_the_test(filled, tmp_path, kind, overrides):
    cfg, model = filled(*overrides, "TEST.NUM_SPATIAL_CROPS", 3, "DATA.TEST_CROP_SIZE", 64)
    extract(cfg, FeatureOptions(str(tmp_path / "f"), kind, tile=False))
    dataset = build_dataset(cfg, "test")
    for video, path in enumerate(dataset.paths):
        found = FeatureFolder(str(tmp_path / "f")).read(path)
        samples = [dataset[video * 6 + view] for view in range(6)]
        np.testing.assert_allclose(found.features, direct(model, [s.inputs for s in samples], kind), 1e-4, 1e-5)
        assert found.features.shape[1:] == (model.num_features, *((2, 2) if kind == "spatial" else ()))
        assert found.label == dataset.labels[video]
        assert found.window.tolist() == [0, 0, 0, 1, 1, 1]
        assert found.crop.tolist() == [0, 1, 2, 0, 1, 2]


def test_clips_cover_the_video(filled, tmp_path, tiny_data):
    cfg, model = filled("TEST.BATCH_SIZE", 2)
    video = str(tiny_data / "test 1.mp4")
    extract(cfg, FeatureOptions(str(tmp_path / "f"), videos=(video,)))
    found = load_features(FeatureFolder(str(tmp_path / "f")).path_of(video))
    with open_video(video) as reader:
        pixels = torch.as_tensor(reader.frames(range(16))).permute(3, 0, 1, 2).float() / 255
    # 16 frames, clips of 4 spread over 8 of them: two, without a gap. The center of the scaled picture.
    assert found.frames.tolist() == [[0, 7], [8, 15]]
    pixels = torch.nn.functional.interpolate(pixels, size=(36, 48), mode="bilinear")[..., 2:34, 8:40]
    pixels = (pixels - 0.45) / 0.225
    clips = [[pixels[:, [0, 2, 4, 7]]], [pixels[:, [8, 10, 12, 15]]]]
    np.testing.assert_allclose(found.features, direct(model, clips), 1e-4, 1e-5)
    assert found.label == -1
    assert found.num_frames == 16
    assert found.fps == pytest.approx(30)
    np.testing.assert_allclose(found.times, [[0, 8 / 30], [8 / 30, 16 / 30]])
    about = about_features(FeatureFolder(str(tmp_path / "f")).path_of(video))
    assert about["layer"] == "forward_features"
    assert about["checkpoint"] == cfg.TEST.CHECKPOINT_FILE_PATH
    assert "WIDTH_PER_GROUP: 4" in about["config"]


def test_a_second_start_makes_only_what_is_missing(filled, tmp_path):
    cfg, _ = filled()
    options = FeatureOptions(str(tmp_path / "f"))
    assert extract(cfg, options) == {"videos": 4, "written": 4, "already_there": 0, "unreadable": {}}
    before = contents(tmp_path / "f")
    first, second = (tmp_path / "f" / name for name in list(before)[:2])
    first.unlink()
    stamp = second.stat().st_mtime_ns
    assert extract(cfg, options)["written"] == 1
    assert contents(tmp_path / "f") == before
    assert second.stat().st_mtime_ns == stamp


def test_workers_and_batches_change_nothing(filled, tmp_path):
    cfg, _ = filled()
    extract(cfg, FeatureOptions(str(tmp_path / "a")))
    cfg, _ = filled("DATA_LOADER.NUM_WORKERS", 2)
    extract(cfg, FeatureOptions(str(tmp_path / "b")))
    cfg, _ = filled("TEST.BATCH_SIZE", 1)
    extract(cfg, FeatureOptions(str(tmp_path / "c")))
    for name in contents(tmp_path / "a"):
        a, b, c = (load_features(str(tmp_path / folder / name)).features for folder in "abc")
        assert np.array_equal(a, b)
        np.testing.assert_allclose(a, c, 1e-4, 1e-5)


@pytest.mark.parametrize("change", ["weights", "settings", "kind"])
def test_other_features_are_not_mixed_in(filled, tmp_path, tiny_cfg, change):
    cfg, _ = filled()
    extract(cfg, FeatureOptions(str(tmp_path / "f")))
    before = contents(tmp_path / "f")
    if change == "weights":
        cfg = tiny_cfg("TEST.ALLOW_RANDOM_WEIGHTS", True)
    elif change == "settings":
        cfg, _ = filled("DATA.SAMPLING_RATE", 3)
    facts = {"weights": "weights: ", "settings": "DATA.SAMPLING_RATE: 2 there, 3 now", "kind": "kind: pooled there"}
    with pytest.raises(ValueError, match=facts[change]):
        extract(cfg, FeatureOptions(str(tmp_path / "f"), "spatial" if change == "kind" else "pooled"))
    assert contents(tmp_path / "f") == before


def test_unreadable_videos_are_counted_and_the_others_written(filled, tmp_path, tiny_data):
    broken, lost = tmp_path / "broken.mp4", tmp_path / "lost.mp4"
    broken.write_bytes((tiny_data / "test 0.mp4").read_bytes()[:900])
    listed = tmp_path / "list.csv"
    listed.write_text(f"{broken}\n{tiny_data / 'test 0.mp4'}\n{lost}\n{tiny_data / 'test 1.mp4'}\n")
    cfg, _ = filled("DATA.MAX_UNREADABLE_FRACTION", 0.5)
    options = FeatureOptions(str(tmp_path / "f"), csv=str(listed), one_file=True)
    summary = extract(cfg, options)
    assert summary["written"] == 2
    assert summary["unreadable"].keys() == {str(broken), str(lost)}
    assert summary["unreadable"][str(lost)] == "no such file"
    assert len(contents(tmp_path / "f")) == 2
    assert json.loads((tmp_path / "f" / "features.json").read_text())["result"] == summary
    with np.load(tmp_path / "f" / "features.npz") as joined:
        assert joined["path"].tolist() == [str(tiny_data / f"test {n}.mp4") for n in (0, 1)]
        assert joined["video"].tolist() == [0, 0, 1, 1]
    cfg, _ = filled("DATA.MAX_UNREADABLE_FRACTION", 0.4)
    with pytest.raises(UnreadableError, match="2 of 4"):
        extract(cfg, options)


@pytest.mark.parametrize("half", [False, True])
def test_parquet_holds_the_same(filled, tmp_path, half):
    parquet = pytest.importorskip("pyarrow.parquet")
    cfg, model = filled()
    for form in ("npz", "parquet"):
        extract(cfg, FeatureOptions(str(tmp_path / form), "spatial", half=half, file_format=form, one_file=True))
    names = contents(tmp_path / "npz")
    for name in names:
        a = load_features(str(tmp_path / "npz" / name))
        b = load_features(str(tmp_path / "parquet" / name).replace(".npz", ".parquet"))
        assert a.features.dtype == (np.float16 if half else np.float32)
        for field in ("features", "window", "crop", "frames", "times"):
            assert np.array_equal(getattr(a, field), getattr(b, field))
        assert (a.path, a.label, a.fps, a.num_frames) == (b.path, b.label, b.fps, b.num_frames)
    table = parquet.read_table(tmp_path / "parquet" / "features.parquet")
    with np.load(tmp_path / "npz" / "features.npz") as joined:
        flat = np.stack(table.column("features").to_numpy())
        assert np.array_equal(flat, joined["features"].reshape(len(flat), -1))
        assert [joined["path"][v] for v in joined["video"]] == table.column("path").to_pylist()
    assert about_features(str(tmp_path / "parquet" / "features.parquet"))["shape"] == [model.num_features, 1, 1]


def test_parquet_without_its_package_is_said_before_anything_is_done(filled, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    cfg, _ = filled()
    with pytest.raises(ValueError, match="pip install pyarrow"):
        extract(cfg, FeatureOptions(str(tmp_path / "f"), file_format="parquet"))
    assert not (tmp_path / "f").exists()


def test_files_of_videos_have_names_of_their_own(tmp_path, monkeypatch):
    """Paths share a feature file if and only if they lead to one file."""
    data = tmp_path / "data"
    for name in ("x/a.mp4", "far/away/b.mp4", "far/a.mp4", "a.mp4", "b/a.mp4", "a.avi"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).touch()
    (data / "x" / "real").mkdir()
    (data / "x" / "link").symlink_to(data / "far" / "away")
    (data / "y").symlink_to(data / "x")
    monkeypatch.chdir(data)
    folder = FeatureFolder(str(tmp_path / "f"))
    spelled = ["x/a.mp4", "./x//a.mp4", "x/real/../a.mp4", "y/a.mp4", str(data / "x" / "a.mp4"), "x/link/../a.mp4"]
    spelled += ["far/a.mp4", "a.mp4", "b/a.mp4", "b/../a.mp4", "a.avi", f"../{data.name}/a.mp4"]
    for one in spelled:
        for other in spelled:
            assert (folder.path_of(one) == folder.path_of(other)) == os.path.samefile(one, other)
    # Only the slash tells a path from the root of the file system from one from this folder.
    assert folder.path_of("a.mp4") != folder.path_of("/a.mp4")
    here = folder.path_of("x/a.mp4")
    monkeypatch.chdir(data / "b")
    assert folder.path_of("../x/a.mp4") == here and folder.path_of("a.mp4") == folder.path_of(str(data / "b" / "a.mp4"))
    # Names of lists of frames, which are no files, stay.
    assert folder.path_of("AAAAA") == str(tmp_path / "f" / "videos" / "AAAAA.npz")
    files = [folder.path_of(path) for path in [*spelled, "../none.mp4", "../../../../../../none.mp4"]]
    assert all(os.path.normpath(file).startswith(str(tmp_path / "f" / "videos") + os.sep) for file in files)
    with pytest.raises(ValueError, match="pooled, spatial"):
        FeatureOptions(str(tmp_path), "mean")
    with pytest.raises(ValueError, match="npz, parquet"):
        FeatureFolder(str(tmp_path), "csv")


def test_a_file_that_is_listed_twice_is_one_video(filled, tmp_path, tiny_data):
    video, other = (str(tiny_data / f"test {n}.mp4") for n in (0, 1))
    spelled = (video, other, str(tmp_path / ".." / os.path.relpath(video, tmp_path.parent)))
    cfg, _ = filled()
    options = FeatureOptions(str(tmp_path / "f"), videos=spelled, one_file=True)
    assert extract(cfg, options)["written"] == 2
    with np.load(tmp_path / "f" / "features.npz") as joined:
        assert [os.path.realpath(path) for path in joined["path"]] == [os.path.realpath(path) for path in spelled[:2]]


@pytest.mark.parametrize("file_format", ["npz", "parquet"])
@pytest.mark.parametrize("keep", [0, 0.5, 0.99])
def test_a_file_that_is_not_whole_is_made_anew(filled, tmp_path, tiny_data, caplog, file_format, keep):
    """As a power cut or a full disk leaves it: empty, or cut off."""
    if file_format == "parquet":
        pytest.importorskip("pyarrow")
    cfg, _ = filled()
    videos = tuple(str(tiny_data / f"test {n}.mp4") for n in (0, 1))
    options = FeatureOptions(str(tmp_path / "f"), file_format=file_format, videos=videos)
    extract(cfg, options)
    before = contents(tmp_path / "f")
    path = FeatureFolder(options.output, file_format).path_of(videos[0])
    with open(path, "r+b") as stream:
        stream.truncate(int(os.path.getsize(path) * keep))
    caplog.clear()
    summary = extract(cfg, options)
    assert (summary["written"], summary["already_there"]) == (1, 1)
    assert f"{path} is not whole" in caplog.text
    assert contents(tmp_path / "f") == before


def test_damage_inside_a_file_is_told_with_its_name(filled, tmp_path, tiny_data):
    cfg, _ = filled()
    video = str(tiny_data / "test 0.mp4")
    extract(cfg, FeatureOptions(str(tmp_path / "f"), videos=(video,)))
    folder = FeatureFolder(str(tmp_path / "f"))
    path = folder.path_of(video)
    content = bytearray(Path(path).read_bytes())
    place = content.index(folder.read(video).features.tobytes()[:64])
    content[place] ^= 1
    Path(path).write_bytes(content)
    with pytest.raises(ValueError, match=f"{path}.*damaged.*remove it"):
        folder.read(video)


def test_long_names_are_written_or_left_out_with_the_reason(filled, tmp_path, tiny_data):
    """File systems allow names of 255 bytes, and a feature file has the video's and an ending."""
    cfg, _ = filled("DATA.MAX_UNREADABLE_FRACTION", 0.6)
    videos = [tmp_path / f"{'v' * (length - 4)}.mp4" for length in (247, 251, 252, 255)]
    for video in videos:
        os.link(tiny_data / "test 0.mp4", video)
    summary = extract(cfg, FeatureOptions(str(tmp_path / "f"), videos=tuple(map(str, videos))))
    assert summary["written"] == 2
    assert sorted(summary["unreadable"]) == sorted(map(str, videos[2:]))
    assert all("name too long" in cause for cause in summary["unreadable"].values())
    assert len(contents(tmp_path / "f")) == 2
