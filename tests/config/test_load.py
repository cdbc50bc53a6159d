"""YAML files, their bases and overrides: values, and messages for mistakes."""

import logging
from pathlib import Path

import pytest

from slowfast.config import cfg_from_yaml, load_config, nearest_keys


@pytest.fixture
def write(tmp_path):
    """Function: write the text of a config file and give its path."""

    def write_file(text: str, name: str = "config.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write_file


def test_overrides_beat_the_file_and_the_file_its_bases(write):
    write(
        "SOLVER: {BASE_LR: 1.0, MAX_EPOCH: 3, GAMMA: 0.5}\nMODEL: {MODEL_NAME: ResNet, ARCH: slow}\n", "base/one.yaml"
    )
    write("_BASE_: one.yaml\nSOLVER: {BASE_LR: 2.0, MAX_EPOCH: 4}\n", "base/two.yaml")
    path = write("_BASE_: base/two.yaml\nSOLVER:\n  BASE_LR: 3.0\n")
    cfg = load_config(path, ["SOLVER.BASE_LR", "4.0"])
    solver = cfg.SOLVER
    assert (solver.BASE_LR, solver.MAX_EPOCH, solver.GAMMA, cfg.MODEL.ARCH) == (4.0, 4, 0.5, "slow")
    assert load_config(str(path)).SOLVER.BASE_LR == 3.0


def test_several_bases_in_order_and_one_reached_twice(write):
    write("SOLVER: {BASE_LR: 1.0, MAX_EPOCH: 1}\n", "root.yaml")
    write("_BASE_: root.yaml\nSOLVER: {MAX_EPOCH: 2}\n", "left.yaml")
    write("_BASE_: root.yaml\nSOLVER: {BASE_LR: 3.0}\n", "right.yaml")
    cfg = load_config(write("_BASE_: [left.yaml, right.yaml]\n"))
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_EPOCH) == (3.0, 1)


def test_cycle_of_bases_names_the_chain(write):
    write("_BASE_: two.yaml\n", "one.yaml")
    path = write("_BASE_: one.yaml\n", "two.yaml")
    with pytest.raises(ValueError, match=r"two\.yaml -> \S*one\.yaml -> \S*two\.yaml"):
        load_config(path)


@pytest.mark.parametrize("typo", ["BASE_", "_BASE", "__BASE__", "base"])
def test_misspelled_base(write, typo):
    with pytest.raises(ValueError, match=rf"{typo} .*line 1.* _BASE_\."):
        load_config(write(f"{typo}: other.yaml\n"))


@pytest.mark.parametrize("value", ["3", "{a: b}", "[1]"])
def test_base_that_is_no_file_name(write, value):
    with pytest.raises(ValueError, match=r"_BASE_ in .*config\.yaml, line 2 must be a file name"):
        load_config(write(f"NUM_GPUS: 0\n_BASE_: {value}\n"))


def test_missing_files(write, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml does not exist"):
        load_config(tmp_path / "nowhere.yaml")
    with pytest.raises(FileNotFoundError, match=r"gone\.yaml does not exist.*_BASE_.*config\.yaml -> "):
        load_config(write("_BASE_: gone.yaml\n"))
    with pytest.raises(FileNotFoundError, match="is a folder"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "SOLVER:\n  BASE_RL: 1\n",
            r"SOLVER\.BASE_RL in .*config\.yaml, line 2\..*nearest.*SOLVER\.BASE_LR\.",
        ),
        ("TRAIN:\n  BASE_LR: 1\n", r"TRAIN\.BASE_LR .*line 2\..*nearest.*SOLVER\.BASE_LR\."),
        (
            "SOLVR:\n  BASE_LR: 1\n",
            r"key SOLVR.BASE_LR in .*line 1: .*no section SOLVR.*SOLVER.BASE_LR\..*install the project",
        ),
        ("NUM_GPU: 1\n", r"key NUM_GPU in .*line 1\. The nearest known key is NUM_GPUS\.$"),
        (
            "TENSORBOARD:\n  MODEL_VIS:\n    GRAD_CAM: {ENABEL: 1}\n",
            r"GRAD_CAM\.ENABEL .*line 3.*CAM\.ENABLE\.",
        ),
        ("SOLVER: {STEPS: {A: 1}}\n", r"SOLVER\.STEPS .*line 1 holds one value.*not a section, got keys A"),
        ("SOLVER: 3\n", r"SOLVER .*line 1 is a section with keys such as .*cannot be set to 3"),
        ("- a\n- b\n", r"config\.yaml: the top level must be"),
        ("just words\n", r"config\.yaml: the top level must be"),
        ("SOLVER:\n  BASE_LR: [1\nTRAIN: {}\n", r"config\.yaml, line \d: not valid YAML"),
        ("SOLVER:\n\tBASE_LR: 1\n", r"config\.yaml, line 2: not valid YAML"),
        (
            "SOLVER: {BASE_LR: many}\n",
            r"SOLVER\.BASE_LR in .*line 1 is 'many' \(str\).*must be a number.* 0\.1",
        ),
        ("SOLVER: {STEPS: &a [*a]}\n", r"line 1: \*a leads to a value that contains itself"),
        ("MVIT:\n  DIM_MUL: &a [*a]\n", r"line 2: \*a leads to a value that contains itself"),
        ("TENSORBOARD: &a {MODEL_VIS: *a}\n", r"line 1: \*a leads to a value that contains itself"),
        ("OUTPUT_DIR: 2020-13-45\n", r"config\.yaml: not valid YAML: month"),
        ("NUM_GPUS: 1.5\n", r"NUM_GPUS in .*line 1 is 1\.5 \(float\).*must be a whole number"),
        ("TRAIN: {ENABLE: 1}\n", r"TRAIN\.ENABLE .* is 1 \(int\).*must be True or False"),
        ("OUTPUT_DIR: 3\n", r"OUTPUT_DIR .* is 3 \(int\).*must be text"),
        ("DATA: {MEAN: [a, b, c]}\n", r"DATA\.MEAN .*must be a list whose items are each a number"),
        ("SOLVER: {STEPS: [a]}\n", r"SOLVER\.STEPS .*must be a list whose items are each a number"),
        ("RESNET: {SPATIAL_STRIDES: [[1], [x]]}\n", r"SPATIAL_STRIDES .*each a list .* each a whole number"),
    ],
)
def test_mistakes_are_named_with_their_place(write, text, message):
    with pytest.raises(ValueError, match=message):
        load_config(write(text))


def test_the_base_file_is_named_when_the_mistake_is_there(write):
    write("SOLVER:\n  MOMENTUN: 1\n", "base.yaml")
    with pytest.raises(ValueError, match=r"SOLVER\.MOMENTUN in .*base\.yaml, line 2.*SOLVER\.MOMENTUM"):
        load_config(write("_BASE_: base.yaml\n"))


def test_no_code_of_a_file_runs(write, tmp_path):
    trace = tmp_path / "trace"
    for tag in ("!!python/object/apply:os.mkdir", "!!python/object/new:os.mkdir"):
        with pytest.raises(ValueError, match=r"config\.yaml, line 1: not valid YAML: .*tag"):
            load_config(write(f"OUTPUT_DIR: {tag} ['{trace}']\n"))
        assert not trace.exists()
    with pytest.raises(ValueError, match=r"PATCH_KERNEL .*list"):
        load_config(write(f"MVIT: {{PATCH_KERNEL: \"(__import__('os').mkdir('{trace}'), 1, 1)\"}}\n"))
    assert not trace.exists()


def test_empty_file_and_empty_section_are_the_defaults(write):
    assert load_config(write("")) == load_config(None)
    assert load_config(write("TRAIN:\nNUM_GPUS: 1\n")) == load_config(None)


def test_binary_file(tmp_path):
    path = tmp_path / "model.pyth"
    path.write_bytes(b"\x80\x04\xff\xfe")
    with pytest.raises(ValueError, match=r"model\.pyth is not UTF-8 text"):
        load_config(path)


def test_key_written_twice_is_reported(write, caplog):
    with caplog.at_level(logging.WARNING):
        cfg = load_config(write("TRAIN:\n  BATCH_SIZE: 8\nNUM_GPUS: 0\nTRAIN:\n  EVAL_PERIOD: 2\n"))
    assert (cfg.TRAIN.BATCH_SIZE, cfg.TRAIN.EVAL_PERIOD) == (64, 2)
    assert "TRAIN is on line 1 and again on line 4; only the second counts" in caplog.text


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["SOLVER.BASE_LR"], r"pairs KEY VALUE, got 1 items: SOLVER\.BASE_LR"),
        (["SOLVER.BASE_LR=1"], r"Write: SOLVER.BASE_LR 1"),
        ([1, 2], r"the key 1 is not text"),
        (["_BASE_", "a.yaml"], r"_BASE_ works inside a config file only"),
        (
            ["SOLVER.BASE_LT", 1],
            r"SOLVER\.BASE_LT in the overrides\. The nearest known key is SOLVER\.BASE_LR",
        ),
        (["NUM_GPUZ", 1], r"NUM_GPUZ in the overrides\. The nearest known key is NUM_GPUS"),
        (["SOLVR.BASE_LR", 1], r"SOLVR.BASE_LR in the overrides: .*The nearest known key is SOLVER.BASE_LR\."),
        (["SOLVER.BASE_LR.X", 1], r"SOLVER\.BASE_LR in the overrides holds one value"),
        (["SOLVER", "x"], r"SOLVER in the overrides is a section"),
        (["NUM_GPUS", "two"], r"NUM_GPUS in the overrides is 'two' \(str\).*whole number"),
        (["NUM_GPUS", 1, "NUM_GPUS.A", 1], r"NUM_GPUS already has the value 1"),
    ],
)
def test_mistakes_in_overrides(overrides, message):
    with pytest.raises(ValueError, match=message):
        load_config(None, overrides)


def test_old_names_of_keys(write):
    path = write("LOGS: {DIR: logs/here, PERIOD: 7, LOG_MODEL: false}\n")
    cfg = load_config(path)
    assert (cfg.OUTPUT_DIR, cfg.LOG_PERIOD, cfg.LOG_MODEL_INFO) == ("logs/here", 7, False)
    cfg = load_config(path, ["OUTPUT_DIR", "out", "LOG_PERIOD", "3"])
    assert (cfg.OUTPUT_DIR, cfg.LOG_PERIOD) == ("out", 3)
    cfg = load_config(None)
    assert (cfg.OUTPUT_DIR, cfg.LOG_PERIOD, cfg.LOG_MODEL_INFO) == (".", 10, True)


def test_torchvision_is_read_as_pyav_and_said_once(write, caplog):
    path = write("DATA: {DECODING_BACKEND: torchvision}\n")
    with caplog.at_level(logging.INFO):
        cfg = load_config(path)
    assert cfg.DATA.DECODING_BACKEND == "pyav"
    assert [record.message.count("torchvision") for record in caplog.records] == [1]


def test_defaults_of_lists_fit_the_model_unless_given():
    assert load_config(None).DATA.INPUT_CHANNEL_NUM == [3, 3]
    assert load_config(None, ["MODEL.MODEL_NAME", "ResNet", "MODEL.ARCH", "slow"]).DATA.INPUT_CHANNEL_NUM == [3]
    cfg = load_config(None, ["RESNET.DEPTH", 18])
    assert cfg.RESNET.NUM_BLOCK_TEMP_KERNEL == [[2], [2], [2], [2]]
    cfg = load_config(None, ["RESNET.DEPTH", 101])
    assert cfg.RESNET.NUM_BLOCK_TEMP_KERNEL == [[3], [4], [6], [3]]


def test_stored_text_is_checked_like_a_file():
    with pytest.raises(ValueError, match=r"NUM_GPU in the checkpoint, line 2"):
        cfg_from_yaml("RNG_SEED: 1\nNUM_GPU: 2\n", origin="the checkpoint")


def test_nearest_keys():
    known = ["SOLVER.BASE_LR", "SOLVER.BETAS", "TRAIN.BATCH_SIZE", "DATA.MEAN"]
    assert nearest_keys("solver.base_rl", known) == ["SOLVER.BASE_LR"]
    assert nearest_keys("TEST.MEAN", known) == ["DATA.MEAN"]
    assert nearest_keys("SOLVER.BETA", known, count=2) == ["SOLVER.BETAS", "SOLVER.BASE_LR"]
    assert nearest_keys("x", []) == []


@pytest.mark.parametrize("more", [[], ["SOLVER.MAX_EPOCH=3"]])
def test_key_and_value_in_one_word(more):
    with pytest.raises(ValueError, match="Write: SOLVER.BASE_LR 0.1"):
        load_config(None, ["SOLVER.BASE_LR=0.1", *more])


def test_home_folder_in_paths(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    cfg = load_config(
        None,
        [
            *(
                "OUTPUT_DIR",
                "~/out",
                "DATA.PATH_TO_DATA_DIR",
                "~/data",
                "DATA.PATH_PREFIX",
                "~",
                "AVA.FRAME_DIR",
                "~/f",
            ),
            *("TRAIN.CHECKPOINT_FILE_PATH", "~/w.pyth", "TEST.CHECKPOINT_FILE_PATH", "zoo://x3d_s"),
            *("AVA.TRAIN_LISTS", ["~/a.csv", "b.csv"], "DATA.PATH_LABEL_SEPARATOR", "~"),
        ],
    )
    assert (cfg.OUTPUT_DIR, cfg.DATA.PATH_TO_DATA_DIR, cfg.DATA.PATH_PREFIX) == (
        "/home/me/out",
        "/home/me/data",
        "/home/me",
    )
    assert (cfg.TRAIN.CHECKPOINT_FILE_PATH, cfg.TEST.CHECKPOINT_FILE_PATH) == ("/home/me/w.pyth", "zoo://x3d_s")
    assert (cfg.AVA.FRAME_DIR, cfg.AVA.TRAIN_LISTS) == ("/home/me/f", ["/home/me/a.csv", "b.csv"])
    assert cfg.DATA.PATH_LABEL_SEPARATOR == "~"
    assert load_config(None, ["LOGS.DIR", "~/logs"]).OUTPUT_DIR == "/home/me/logs"


def test_warm_up_from_above_is_said(caplog):
    load_config(None, ["SOLVER.BASE_LR", 0.003])
    assert not caplog.records
    load_config(None, ["SOLVER.BASE_LR", 0.003, "SOLVER.WARMUP_EPOCHS", 1])
    assert "WARMUP_START_LR 0.01" in caplog.text and "BASE_LR 0.003" in caplog.text


def test_a_sweep_of_views():
    """-1 stands for the published numbers, unless others are named."""
    test = load_config(None, ["TEST.NUM_ENSEMBLE_VIEWS", -1]).TEST
    assert (test.NUM_TEMPORAL_CLIPS, test.NUM_ENSEMBLE_VIEWS) == ([1, 3, 5, 7, 10], 10)
    test = load_config(None, ["TEST.NUM_ENSEMBLE_VIEWS", -1, "TEST.NUM_TEMPORAL_CLIPS", [2, 4]]).TEST
    assert (test.NUM_TEMPORAL_CLIPS, test.NUM_ENSEMBLE_VIEWS) == ([2, 4], 4)


@pytest.mark.parametrize("arch", ["c2d", "c2d_nopool"])
def test_the_published_name_of_a_network_without_pooling(arch):
    model = load_config(None, ["MODEL.MODEL_NAME", "ResNet_nopool", "MODEL.ARCH", arch]).MODEL
    assert (model.MODEL_NAME, model.ARCH) == ("ResNet", "c2d_nopool")
    with pytest.raises(ValueError, match="slow_nopool"):
        load_config(None, ["MODEL.MODEL_NAME", "ResNet_nopool", "MODEL.ARCH", "slow"])
