"""Config files and overrides that are odd or hostile: each loads as it should, or ends in one short line."""

import builtins
import math
import os
import random
import socket
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slowfast.config import cfg_from_yaml, cfg_to_yaml, load_config
from slowfast.config.merge import leaf_keys

LONGEST_MESSAGE = 1500  # characters: a few lines of a terminal


@pytest.fixture
def write(tmp_path):
    """Function: write the content, text or bytes, of a config file and give its path."""

    def write_file(content: str | bytes, name: str = "config.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


def refusal(load) -> str:
    """Return the message of the mistake that a load ends in."""
    with pytest.raises((ValueError, OSError)) as caught:
        load()
    message = str(caught.value)
    assert "\n" not in message and 0 < len(message) < LONGEST_MESSAGE
    return message


def test_bases_that_share_bases_are_read_once_each(write, monkeypatch):
    for number in range(24):  # read at every place where they are named, these would be 2**24 files
        write(f"_BASE_: [{number + 1}.yaml, {number + 1}.yaml]\n", f"{number}.yaml")
    write("SOLVER: {MAX_EPOCH: 7}\n", "24.yaml")
    opened = []
    real = builtins.open
    monkeypatch.setattr(builtins, "open", lambda path, *more: opened.append(Path(path).name) or real(path, *more))
    cfg = load_config(write("_BASE_: 0.yaml\n"))
    monkeypatch.undo()
    assert cfg.SOLVER.MAX_EPOCH == 7
    assert sorted(opened) == sorted(["config.yaml", *(f"{number}.yaml" for number in range(25))])


@pytest.mark.parametrize("seed", range(5))
def test_a_file_reached_by_several_ways_counts_as_if_merged_at_each(write, seed):
    keys, rng = ("BASE_LR", "MOMENTUM", "GAMMA", "DAMPENING"), random.Random(seed)
    bases = {number: rng.choices(range(number + 1, 8), k=rng.randint(1, 3)) for number in range(7)} | {7: []}
    given = {number: dict.fromkeys(rng.sample(keys, 2), number / 10) for number in bases}
    for number, below in bases.items():
        write(yaml.safe_dump({"_BASE_": [f"{base}.yaml" for base in below], "SOLVER": given[number]}), f"{number}.yaml")

    def merged(number: int) -> dict:
        values = {}
        for base in bases[number]:
            values |= merged(base)
        return values | given[number]

    expected = merged(0)
    solver = load_config(write("_BASE_: 0.yaml\n")).SOLVER
    assert {key: solver[key] for key in expected} == expected


def test_a_chain_of_bases_has_an_end(write):
    for number in range(200):
        write(f"_BASE_: {number + 1}.yaml\n", f"{number}.yaml")
    write("NUM_GPUS: 0\n", "200.yaml")
    message = refusal(lambda: load_config(write("_BASE_: 0.yaml\n")))
    assert "over 100 files" in message and "config.yaml -> " in message and message.count(".yaml") < 20
    assert load_config(write("_BASE_: 110.yaml\n")).NUM_GPUS == 0


def test_names_that_are_no_regular_file(write, tmp_path):
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "folder_loop").symlink_to("folder_loop")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
        for name, fact in {
            "loop.yaml": "symbolic links",
            "folder_loop/a.yaml": "symbolic links",
            "pipe": "pipe",
            "socket": "socket",
            "/dev/zero": "device",
            "a\0b": "not a possible name",
            "a" * 300: "too long",
            ".": "folder",
            "config.yaml/a": "does not exist",
            "a\x1b[31m\nb": "does not exist",
        }.items():
            path = write(yaml.safe_dump({"_BASE_": name}))
            assert fact in refusal(lambda name=name: load_config(tmp_path / name))
            assert fact in (message := refusal(lambda path=path: load_config(path)))
            assert "_BASE_" in message and "\x1b" not in message


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b"NUM_GPUS: 0\0\n", "control characters"),
        (b"NUM_GPUS: \x1b[31m\n", "control characters"),
        ("NUM_GPUS: 0\n".encode("utf-16"), "UTF-8"),
        ("NUM_GPUS: 0\n".encode("utf-32"), "UTF-8"),
        ("OUTPUT_DIR: café\n".encode("latin-1"), "UTF-8"),
        ('OUTPUT_DIR: "\\ud800"\n', "Unicode"),
        ("# x\n" * 300_000, "1,048,576 bytes"),
        ("NUM_GPUS: 0\n---\nNUM_GPUS: 1\n", "another document"),
        ("NUM_GPUS: *other\n", "undefined alias"),
        ("%YAML 9.9\n---\nNUM_GPUS: 0\n", "incompatible"),
        ("SOLVER: {LRS: " + "[" * 10_000 + "]" * 10_000 + "}\n", "nesting"),
        ("SOLVER: {LRS: " + "[" * 60 + "]" * 60 + "}\n", "nested more than 50 deep"),
        ("{a: " * 60 + "1" + "}" * 60, "nested more than 50 deep"),
        ("- " * 10_000, "nest"),
        ("SOLVER: {LRS: [" + "1," * 60_000 + "]}\n", "50,000"),
        ("SOLVER: &a {<<: *a}\n", "contains itself"),
        ("SOLVER: {<<: 3}\n", "merging"),
        ("? [a, b]\n: 1\n", "unhashable"),
        ("1: 2\n", "key 1 in"),
        ("~: 2\n", "key None in"),
        ("2020-01-01: {a: 1}\n", "section 2020-01-01"),
        ("SOLVER: {~: 2, 1.5: 3}\n", "SOLVER.None"),
        ('"SOLVER\\tX": 1\n', r"'SOLVER\tX' in"),
        ('"SOL\\nVER": 1\n', r"'SOL\nVER' in"),
        ('SOLVER: {"BASE\\e[31m": 1}\n', r"SOLVER.'BASE\x1b[31m' in"),
        (f"? {'A' * 100_000}\n: 1\n", "line 1: a key or value of 100,000 characters"),
        (f"? {'A' * 9_000}\n: 1\n", "AAA... in"),
        (f"SOLVER: {{BASE_LR: {'9' * 400}}}\n", "must be finite"),
        (f"SOLVER: {{BASE_LR: {'9' * 5000}}}\n", "digits"),
        (f"NUM_GPUS: {'9' * 400}\n", "64 bits"),
        (f"NUM_GPUS: 1:{':'.join(['59'] * 3000)}\n", "64 bits"),
        ("SOLVER: {BASE_LR: 1.0e+400}\n", "must be finite"),
        ("SOLVER: {MOMENTUM: .nan}\n", "is nan"),
        ("SOLVER: {LRS: [1, .inf]}\n", "must be finite"),
        ("MODEL: {FREEZE_STAGES: [1]}\n", "each text"),
        ("AVA: {BOX_FRAMES: [a]}\n", "each a whole number"),
        ("MODEL: {MODEL_NAME: MViT, ARCH: mvit}\nMVIT: {DIM_MUL: [[1, two]]}\n", "MVIT.DIM_MUL has [1, 'two']"),
        ("SOLVER: {LRS: !!set {1, 2}}\n", "(set)"),
        ("OUTPUT_DIR: !!binary aGVsbG8=\n", "(bytes)"),
        ("OUTPUT_DIR: 2020-01-01\n", "(date)"),
        ("TRAIN: {ENABLE: !!bool perhaps}\n", "does not fit its tag"),
        ("TRAIN: {ENABLE: !!timestamp perhaps}\n", "does not fit its tag"),
        ("NUM_GPUS: !!int\n", "does not fit its tag"),
        ("NUM_GPUS: 0x_\n", "not valid YAML"),
        (f"MODEL: {{MODEL_NAME: {'x' * 9000}}}\n", "MODEL.MODEL_NAME is 'xxx"),
        (f"SOLVER: {{STEPS: {list(range(5000, 0, -1))}, LR_POLICY: steps_with_relative_lrs}}\n", "then rising"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_odd_content(write, content, fact):
    path = write(content)
    assert fact in refusal(lambda: load_config(path))


def test_encodings_that_are_read(write):
    for content in (b"\xef\xbb\xbfNUM_GPUS: 0\n", b"NUM_GPUS: 0\r\nTRAIN:\r\n  BATCH_SIZE: 8\r\n", b"NUM_GPUS: 0\r"):
        assert load_config(write(content)).NUM_GPUS == 0


def bomb(kind: str) -> str:
    """Return a text of nine aliases of nine aliases ..., written out 9**9 values."""
    lines = ["A0: &a0 {x: 1}" if kind != "list" else "A0: &a0 [1]"]
    for level in range(1, 10):
        aliases = [f"*a{level - 1}"] * 9
        if kind == "section":
            aliases = [f"k{number}: {alias}" for number, alias in enumerate(aliases)]
        inner = ", ".join(aliases)
        value = {"list": f"[{inner}]", "section": f"{{{inner}}}", "merge": f"{{<<: [{inner}]}}"}[kind]
        lines.append(f"A{level}: &a{level} {value}")
    return "".join(f"  {line}\n" for line in lines)


@pytest.mark.parametrize("kind", ["list", "section", "merge"])
def test_aliases_that_would_be_gigabytes(write, kind):
    text = "SOLVER:\n" + bomb(kind)
    path = write(text)
    assert "those of aliases written out" in refusal(lambda: load_config(path))
    assert "those of aliases written out" in refusal(lambda: cfg_from_yaml(text, foreign=True))


def test_aliases_and_merge_keys_in_reason(write, caplog):
    cfg = load_config(
        write("TRAIN: &run {BATCH_SIZE: 8}\nTEST: {<<: *run, ENABLE: false, BATCH_SIZE: 4}\nNUM_GPUS: 0\n")
    )
    assert (cfg.TRAIN.BATCH_SIZE, cfg.TEST.BATCH_SIZE, cfg.TEST.ENABLE) == (8, 4, False)
    cfg = load_config(write("DATA: {MEAN: &three [0.5, 0.5, 0.5], STD: *three}\n"))
    assert cfg.DATA.STD == [0.5] * 3
    assert not caplog.records


def test_settings_stored_with_aliases_load():
    """Two keys may hold one list, which YAML of other programs, and of earlier versions, writes as an alias."""
    cfg = load_config(None, ["AVA.TRAIN_PCA_EIGVAL", [0.1, 0.2, 0.3]])
    assert "*" not in (text := cfg_to_yaml(cfg))
    values = yaml.safe_load(text)
    values["AVA"]["TRAIN_PCA_EIGVAL"] = values["DATA"]["TRAIN_PCA_EIGVAL"] = [0.1, 0.2, 0.3]
    assert "*id001" in (shared := yaml.safe_dump(values))
    assert cfg_from_yaml(shared, foreign=True).AVA.TRAIN_PCA_EIGVAL == [0.1, 0.2, 0.3]


def test_many_unknown_keys_are_named_in_part(write, caplog):
    text = "SOLVER:\n" + "".join(f"  KEY_{number}: 1\n" for number in range(2000))
    path = write(text)
    message = refusal(lambda: load_config(path))
    assert "SOLVER.KEY_0 in" in message and "line 2" in message and "1999 more unknown: SOLVER.KEY_1, " in message
    cfg_from_yaml(text, foreign=True)
    assert "SOLVER.KEY_4 and 1995 more" in caplog.text and "KEY_5," not in caplog.text
    path = write("NUM_GPUS: 0\n" * 2000)
    caplog.clear()
    load_config(path)
    assert len(caplog.records) < 10 and "1994 more" in caplog.text


@pytest.mark.parametrize(
    ("key", "value", "fact"),
    [
        ("SOLVER.BASE_LR", 10**400, "must be finite"),
        ("SOLVER.BASE_LR", 10**5000, "must be finite"),
        ("SOLVER.BASE_LR", "1e400", "must be finite"),
        ("SOLVER.BASE_LR", "nan", "a number"),
        ("SOLVER.BETAS", "(0.9, 1e400)", "must be finite"),
        ("NUM_GPUS", "9" * 5000, "a whole number"),
        ("NUM_GPUS", "1e300", "64 bits"),
        ("RNG_SEED", 2**64, "64 bits"),
        ("NUM_GPUS", "x" * 1_000_000, "'xxx"),
        ("OUTPUT_DIR", "x" * 1_000_000, "10,000"),
        ("OUTPUT_DIR", "a\0b", "null characters"),
        ("OUTPUT_DIR", "\udcff", "UTF-8"),
        ("SOLVER.LRS", "[" * 10_000, "nested at most 50 deep"),
        ("SOLVER.LRS", "(" * 60 + ")" * 60, "nested at most 50 deep"),
        ("SOLVER.LRS", "[" + "-" * 50_000 + "1]", "a list"),
        ("SOLVER.LRS", "[9**9**9]", "a list"),
        ("SOLVER.LRS", "[1\0]", "not a list"),
        ("SOLVER.LRS", "[1," * 40_000, "100,000 characters"),
        ("SOLVER.LRS", "[!!bool perhaps]", "not a list"),
        ("SOLVER.LRS", {1, 2}, "(set)"),
        ("MODEL.FREEZE_STAGES", "[1]", "each text"),
        ("MVIT.DIM_MUL", "[b'x', 1]", "a plain value"),
        ("N" * 1_000_000, 1, "NNN... in the overrides"),
        ("SOLVER." + ".".join("A" * 10_000), 1, "Unknown config key SOLVER.A"),
        ("NUM\udcffGPUS", 1, r"'NUM\udcffGPUS'"),
        ("", 1, "Unknown config key"),
        ("SOLVER..BASE_LR", 1, "SOLVER."),
        ("A=" + "x" * 10_000, 1, "pairs KEY VALUE"),
    ],
    ids=lambda value: str(value)[:24] if not isinstance(value, int) else "number",
)
def test_odd_overrides(key, value, fact):
    assert fact in refusal(lambda: load_config(None, [key, value])).replace("\\\\", "\\")


def test_an_odd_number_of_many_overrides():
    assert "got 20001 items" in refusal(lambda: load_config(None, ["NUM_GPUS"] * 20_001))


def test_a_list_that_contains_itself():
    endless: list = []
    endless.append(endless)
    for key in ("SOLVER.LRS", "MVIT.DIM_MUL"):
        message = refusal(lambda key=key: load_config(None, [key, endless]))
        assert message.startswith(f"{key} in the overrides is [[") and "(list)" in message


def test_limits_may_be_infinite():
    cfg = load_config(None, ["SOLVER.CLIP_GRAD_L2NORM", "inf", "TRAIN.KILL_LOSS_EXPLOSION_FACTOR", math.inf])
    assert cfg.SOLVER.CLIP_GRAD_L2NORM == cfg.TRAIN.KILL_LOSS_EXPLOSION_FACTOR == math.inf


def test_the_command_prints_one_line_and_ends_with_status_2(run_tool, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for words in (["--cfg", tmp_path / "pipe"], ["--cfg", "/dev/zero"], ["SOLVER.BASE_LR", "9" * 400]):
        status, output = run_tool("run_net", *words)
        assert status == 2 and output.count("\n") == 1 and output.startswith("error: ")


NUMBERS = st.one_of(
    st.sampled_from([0, 1, -1, 3, 2**31, 2**63, 2**64, 10**400, 0.5, 1e300, math.inf, -math.inf, math.nan]),
    st.integers(-5, 64),
    st.floats(),
)
TEXTS = st.one_of(
    st.sampled_from(["None", "1e400", "nan", "[1", "[1, 2]", "(1,)", "[[]]", "a" * 20_000, "SlowFast", "true"]),
    st.text(max_size=8),
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS, st.binary(max_size=4), st.dates(), st.datetimes())
NAMES = st.one_of(st.text(max_size=4), st.integers(0, 3), st.none(), st.sampled_from(["BATCH_SIZE", "ENABLE", "<<"]))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=12,
)
KEYS = list(leaf_keys(load_config(None, ["PROJECTS", ["pgt"]])))
SECTIONS = sorted({key.rpartition(".")[0] for key in KEYS} - {""})
WORDS = (
    *("SOLVER", "BASE_LR", "_BASE_", ":", " ", "\n", "  ", "\t", "- ", "[", "]", "{", "}", ",", "#", "&a", "*a", "<<"),
    *("!!int", "!!float", "!!bool", "!!timestamp", "!!binary", "!!set", "!!omap", "!!str", "!x", "'", '"', "|", ">"),
    *("%", "---", "...", "?", "1", "0x", "1e5", "~", "2020-01-01", ".inf", "0b_", "1:2"),
)
FEW = settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


def outcome(load) -> str:
    """Return the message of the mistake that a load ends in; "same" if a checkpoint holds its settings as they are."""
    try:
        cfg = load()
    except (ValueError, OSError) as error:
        return str(error)
    return "same" if cfg_from_yaml(cfg_to_yaml(cfg)) == cfg else ""


def is_told(message: str) -> bool:
    return "\n" not in message and 0 < len(message) < LONGEST_MESSAGE


@FEW
@given(key=st.sampled_from([*KEYS, *SECTIONS]), value=VALUES)
def test_any_value_at_any_key_of_a_file(tmp_path_factory, key, value):
    for name in reversed(key.split(".")):
        value = {name: value}
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(yaml.safe_dump(value).encode("utf-8", "surrogatepass"))
    assert is_told(outcome(lambda: load_config(path, ["PROJECTS", ["pgt"]])))


@FEW
@given(key=st.sampled_from([*KEYS, *SECTIONS]), value=VALUES)
def test_any_value_of_an_override(key, value):
    assert is_told(outcome(lambda: load_config(None, ["PROJECTS", ["pgt"], key, value])))


@FEW
@given(
    content=st.one_of(
        st.binary(max_size=60), st.lists(st.sampled_from(WORDS), max_size=25).map("".join).map(str.encode)
    )
)
def test_any_text_as_a_file(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "text.yaml"
    path.write_bytes(content)
    assert is_told(outcome(lambda: load_config(path)))
