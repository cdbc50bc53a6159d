"""Label maps in both published spellings, and what is none."""

import json
from pathlib import Path

import pytest

from slowfast.utils.label_map import read_label_map


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "map.pbtxt"
    path.write_text(text)
    return str(path)


def test_the_spelling_of_the_list_of_80(tmp_path):
    names = {1: "bend/bow (at the waist)", 2: "crawl", 80: "watch (a person)"}
    text = "".join(
        f'label {{\n  name: "{name}"\n  label_id: {number}\n  label_type: PERSON_MOVEMENT\n}}\n'
        for number, name in names.items()
    )
    assert read_label_map(written(tmp_path, text)) == names


def test_the_spelling_of_the_list_of_60(tmp_path):
    """60 classes whose ids go up to 80."""
    whitelist = json.loads((Path(__file__).parents[1] / "fixtures/ava_small/class_whitelist.json").read_text())
    assert len(whitelist) == 60
    text = "".join(f'item {{\n  name: "class {number}"\n  id: {number}\n}}\n' for number in whitelist)
    names = read_label_map(written(tmp_path, text))
    assert list(names) == whitelist
    assert names[80] == "class 80"


def test_other_ways_to_write_it(tmp_path):
    text = "# own\r\nitem{id:3,name:'it''s' }".replace("''", "\\'") + '\nitem: {\tname: "a {b} # c" id: 4; };\n'
    assert read_label_map(written(tmp_path, text)) == {3: "it's", 4: "a {b} # c"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('item {\n  name: "a"\n}\n', r"line 1: .*needs an id"),
        ("item {\n id: 1\n}\n", r"line 1: .*and a name"),
        ('item { id: 0 name: "a" }', "id 0 is not a whole number from 1"),
        ('item { id: 1.5 name: "a" }', r"id 1\.5 is not"),
        ('item { id: 1 name: "a" }\nitem { id: 1 name: "b" }', "line 2: id 1 comes twice"),
        ('item { id: 1 name: "a" }\nitem {\n id: 2 name: "b"\n', "line 2: .*does not end"),
        ('item { id: 1 name: "a" }\n}\n', "line 2: '}' is no part"),
        ('item { id: 1 item { id: 2 name: "a" } }', "is no part of a label map"),
        ("id,name\n1,stand\n", "line 1: 'id,name' is no part"),
        ("\n# nothing\n", "names no class"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path, text, message):
    path = written(tmp_path, text)
    with pytest.raises(ValueError, match=message) as caught:
        read_label_map(path)
    assert path in str(caught.value)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.pbtxt"):
        read_label_map(str(tmp_path / "nowhere.pbtxt"))


@pytest.mark.parametrize(
    "text", ["item" + " " * 300_000 + "x", "item :" + "\n" * 300_000 + "x", "item {" + "a " * 100_000]
)
def test_long_texts_that_are_no_label_map(tmp_path, text):
    """A search that goes back and forth over the blanks would take an hour."""
    with pytest.raises(ValueError, match=r"line 1: "):
        read_label_map(written(tmp_path, text))
