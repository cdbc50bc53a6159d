"""JSON of other programs: values, or one line that says where it is wrong."""

import json

import pytest

from slowfast.utils.json_file import read_json


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{"a": 1,\n "b": }', 2),
        ('{"a": 1,\n "b": 2,\n "a": 3}', 3),
        ('[{"id": 1},\n {"id": 2}, {"id": 2,\n "x": [], "x": []}]', 3),
        ("[1,\n\n\n", 4),
        ("[" * 10_000, 1),
        ("9" * 5000, 1),
        ("", 1),
        ("{}", 1),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, line):
    path = tmp_path / "list.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"list.json, line {line}: ") as error:
        read_json(path, list, "[...]")
    assert type(error.value) is ValueError and len(str(error.value).splitlines()) == 1


def test_any_bytes_are_kept(tmp_path):
    (tmp_path / "list.json").write_bytes(b'\xef\xbb\xbf["a\xff", 1e400]')
    assert read_json(tmp_path / "list.json", list, "[...]") == ["a\udcff", float("inf")]


def test_a_repeated_name_among_very_many(tmp_path):
    """Each name is looked at once."""
    names = [f"name {number}" for number in range(50_000)]
    text = json.dumps(dict.fromkeys(names, 0))[:-1] + ', "name 49999": 1}'
    (tmp_path / "map.json").write_text(text)
    with pytest.raises(ValueError, match='the name "name 49999" twice'):
        read_json(tmp_path / "map.json", dict, "{...}")
