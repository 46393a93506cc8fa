"""A mixture that cannot be trained on is refused in one line that says where."""

import os
from pathlib import Path

import pytest

from finetune.mixture import read_mixture
from mimic_eval.records import UserError
from tests.finetune.mixture.test_reader import folder, mixture_of, put, record

__all__ = ["folder"]


def refusal(*paths: Path, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        read_mixture(paths, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def turns(*texts: object, roles: tuple[str, ...] = ("human", "gpt")) -> list[dict]:
    return [{"from": roles[i % len(roles)], "value": text} for i, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image": None}, "0 pictures and 1 <image>"),
        ({"image": ["p.png", "q.png"]}, "2 pictures and 1 <image>"),
        ({"image": ["p.png", ["q.png"]]}, "picture 2 must be a path, got a list"),
        ({"image": [["p.png"]]}, "picture 1 must be a path, got a list"),
        ({"image": [7]}, "picture 1 must be a path, got a number"),
        ({"image": {"bytes": "x"}}, "picture 1 must be a path, got a object"),
        ({"image": [""]}, "picture 1 has an empty path"),
        ({"image": "https://x.org/p.png"}, "is an address"),
        ({"image": "data:image/png;base64,AAAA"}, "is an address"),
        ({"image": "missing.png"}, "no such file"),
        ({"image": "\u0000.png"}, "no such file"),
        ({"image": "\ud800.png"}, "no such file"),
        ({"image": "."}, "is not a file"),
        ({"image": "empty.png"}, "is empty"),
        ({"video": "v.mp4"}, "shows a video"),
        ({"videos": ["v.mp4"]}, "shows a video"),
        ({"conversations": []}, "conversation is empty"),
        ({"conversations": None}, "no `conversations`"),
        ({"conversations": {"from": "human"}}, "must be a list of turns"),
        ({"conversations": ["hi"]}, "turn 1 must be an object {...}, got a string"),
        ({"conversations": [turns("<image> x", "y")]}, "turn 1 must be an object {...}, got a list"),
        ({"conversations": turns("<image> x", None)}, "turn 2: its text must be a string, got a null"),
        ({"conversations": turns("<image> x", 3)}, "turn 2: its text must be a string, got a number"),
        ({"conversations": turns("<image> x", " ")}, "turn 2 has no text"),
        ({"conversations": turns("<image> x")}, "ends without an answer"),
        ({"conversations": turns("<image> x", "y", "z")}, "ends without an answer"),
        ({"conversations": turns("y", roles=("gpt",))}, "conversation has no question"),
        ({"conversations": turns("x", "it is <image>")}, "<image> stands in a turn of the assistant"),
        ({"conversations": turns("<image> x", "y", roles=("humane", "gpt"))}, "Did you mean 'human'"),
        (
            {"conversations": turns("<image> x", "y", "z", roles=("human", "gpt", "system"))},
            "only speak first",
        ),
        ({"conversations": turns("<image> \ud800", "y")}, "half of a surrogate pair"),
    ],
)
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_a_sample_is_refused_with_its_line_and_id(folder: Path, name: str, change: dict, reason: str) -> None:
    (folder / "empty.png").touch()
    bad = {key: value for key, value in (record(42) | change).items() if value is not None or key == "image"}
    file = put(folder, name, [record("good"), bad])
    before = file.read_text().split('"id": 42')[0]
    line = before.count("\n") if name == "a.json" else 2
    assert refusal(file).startswith(f"{file}: line {line}, id 42: ")
    assert reason in refusal(file)


def test_faults_are_counted(folder: Path) -> None:
    file = put(
        folder, "a.jsonl", [record("a"), record("b", None), record("c", "x.png"), record("d", "y.png")]
    )
    message = refusal(file)
    assert "line 2, id b" in message
    assert message.endswith("(2 more of 4 samples cannot be used)")


def test_samples_that_are_not_taken_are_not_refused(folder: Path) -> None:
    file = put(folder, "a.jsonl", [record("a"), record("b", None)])
    assert len(read_mixture([mixture_of(folder, (file, "first:50%"))])) == 1


def test_a_wrong_image_folder_is_seen_at_once(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    few = put(folder, "few.json", [record(str(i), f"{i % 80}.png") for i in range(90)])
    assert f"0 of 80 pictures of {few} are in {other} (e.g. 0.png)" in refusal(few, image_folder=other)
    many = put(folder, "many.json", [record(str(i), f"{i}.png") for i in range(200)])
    assert f"0 of first 100 pictures of {many} are in {other}" in refusal(many, image_folder=other)
    gone = put(folder, "gone.json", [record("a", "/nowhere/p.png")])
    assert f"0 of 1 pictures of {gone} are where it says (e.g. /nowhere/p.png)" in refusal(gone)
    assert "no such folder" in refusal(few, image_folder=tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.json", b"", "is empty"),
        ("a.jsonl", b"\xef\xbb\xbf \r\n", "is empty"),
        ("a.json", b"[]", "holds no sample"),
        ("a.json", b'{"id": 1}', "must end in .jsonl"),
        ("a.jsonl", b'[{"id": 1}]', "must end in .json"),
        ("a.json", b'[\n{"id": 1},\n{"id": 2\n]', "line 4: is not JSON (Expecting ',' delimiter)"),
        ("a.json", b'[{"id": 1}', "line 1: is not JSON (it ends too early)"),
        ("a.json", b'[{"id": "1', "is not JSON (Unterminated string starting at)"),
        ("a.json", b'[{"id": 1}\n{"id": 2}]', "line 2: is not JSON (expected , or ])"),
        ("a.json", b'[{"id": 1},]', "is not JSON"),
        ("a.json", b'[{"id": 1}] x', "something follows the list"),
        ("a.json", b"[1]", "a sample must be an object {...}, got a number"),
        ("a.json", b"[[{}]]", "a sample must be an object {...}, got a list"),
        ("a.jsonl", b'\n{"id": \n', "line 2: is not JSON"),
        ("a.json", b'[{"id": "\xff"}]', "is not UTF-8"),
        ("a.jsonl", b'{"id": "\xff"}', "line 1: is not JSON"),
        ("a.json", '[{"id": 1}]'.encode("utf-16"), "is not UTF-8"),
        ("a.json", b"[" * 100_000, "nested too deeply"),
        ("a.jsonl", b'{"a":' * 100_000, "nested too deeply"),
        ("a.json", b"[" + b"1" * 5000 + b"]", "is not JSON"),
        ("a.csv", b"x", "must end in .yaml"),
        ("a.yaml", b"datasets: []", "is no mixture"),
        ("a.yaml", b"- a.json", "is no mixture"),
        ("a.yaml", b"datasets: [{json: a.json}]", "dataset 1: needs a json_path"),
        ("a.yaml", b"datasets: [{json_path: none.json}]", "dataset 1: none.json: no such file"),
        (
            "a.yaml",
            b"datasets: [{json_path: x.json, sampling_strategy: last:3%}]",
            "dataset 1 (x.json): Unknown",
        ),
        ("a.yaml", b"datasets: [{json_path: x.json, sampling_strategy: 3}]", "dataset 1 (x.json): sampling_"),
    ],
)
def test_a_file_is_refused_with_the_reason(folder: Path, name: str, data: bytes, reason: str) -> None:
    (folder / name).write_bytes(data)
    message = refusal(folder / name)
    assert message.startswith(str(folder / name))
    assert reason in message


def test_a_file_that_is_missing_a_folder_a_pipe_or_given_twice(folder: Path) -> None:
    file = put(folder, "a.json", [record()])
    (folder / "link.json").symlink_to(file)
    os.mkfifo(folder / "pipe.json")
    (folder / "b.json").mkdir()
    assert "no such file" in refusal(folder / "none.json")
    assert "is not a file" in refusal(folder / "b.json")
    assert "is not a file" in refusal(folder / "pipe.json")
    assert f"{folder / 'link.json'} is given twice" in refusal(file, folder / "link.json")
    assert "given twice" in refusal(mixture_of(folder, (file, "all"), (Path("a.json"), "end:1")))
    assert "no such file" in refusal(folder / "{a,c}.json")
    assert "must be like folder/{a,b}.json" in refusal(folder / "{a,c}.jsonl")
    assert "no mixture" in refusal()
