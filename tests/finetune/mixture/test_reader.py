"""Samples of mixtures: what each form of a file means, and that the order, parts and digest are right."""

import json
import pickle
from pathlib import Path

import pytest

from finetune.mixture import Turn, read_mixture
from mimic_eval.records import UserError
from mimic_tasks.training.mixture_file import Sampling, parse_strategy


def record(
    name: str = "a", images: object = "p.png", human: str = "<image>\nWhat?", gpt: str = "A cat"
) -> dict:
    turns = [{"from": "human", "value": human}, {"from": "gpt", "value": gpt}]
    return {"id": name, "image": images, "conversations": turns}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("p.png", "q.png", "r.png"):
        (tmp_path / name).write_bytes(b"picture")
    return tmp_path


def put(folder: Path, name: str, records: list) -> Path:
    text = (
        "".join(json.dumps(one) + "\n" for one in records)
        if name.endswith("l")
        else json.dumps(records, indent=1)
    )
    (folder / name).write_text(text)
    return folder / name


def mixture_of(folder: Path, *sets: tuple[Path, str]) -> Path:
    lines = "".join(f'  - json_path: {path}\n    sampling_strategy: "{how}"\n' for path, how in sets)
    (folder / "mixture.yaml").write_text(f"datasets:\n{lines}")
    return folder / "mixture.yaml"


def ids(*paths: Path, **options: object) -> list[str]:
    return [sample.id for sample in read_mixture(paths, **options)]


@pytest.mark.parametrize(
    ("strategy", "taken"),
    [
        ("all", [0, 1, 2, 3, 4, 5, 6]),
        ("first:30%", [0, 1, 2]),  # 2.1 rounded up, as math.ceil in LLaVA-NeXT
        ("end:30%", [4, 5, 6]),
        ("first:2", [0, 1]),
        ("end:1", [6]),
        ("end:100", [0, 1, 2, 3, 4, 5, 6]),
        (" first : 30 % ", [0, 1, 2]),
    ],
)
def test_a_strategy_takes_what_llava_next_takes(folder: Path, strategy: str, taken: list[int]) -> None:
    file = put(folder, "seven.json", [record(str(i)) for i in range(7)])
    assert ids(mixture_of(folder, (file, strategy))) == [str(i) for i in taken]


def test_random_takes_a_share_by_the_seed_in_the_order_of_the_file(folder: Path) -> None:
    file = put(folder, "many.jsonl", [record(str(i)) for i in range(50)])
    mixture = mixture_of(folder, (file, "random:21%"))
    first = ids(mixture)
    assert len(first) == 11
    assert first == sorted(first, key=int)
    assert ids(mixture) == first
    assert ids(mixture, seed=1) != first


@pytest.mark.parametrize(
    "text", ["last:3", "first:0", "first:101%", "first:-1", "random", "all:3", "first:1.5%", 7]
)
def test_what_llava_next_would_take_for_all_or_fail_on_is_refused(text: object) -> None:
    with pytest.raises(UserError, match="sampling_strategy"):
        parse_strategy(text)


def test_nearest_strategy_is_suggested() -> None:
    with pytest.raises(UserError, match="Did you mean 'first'"):
        parse_strategy("fist:3%")
    assert parse_strategy("end:3") == Sampling("end", 3)


def test_sets_and_extra_files_follow_each_other(folder: Path) -> None:
    a = put(folder, "a.json", [record("a0"), record("a1")])
    b = put(folder, "b.jsonl", [record("b0"), record("b1", None, "Hi", "Ho")])
    extra = put(folder, "extra.json", [record(7, ["p.png", "q.png"], "<image>\n<image>\nBoth?", "yes")])
    mixture = read_mixture([mixture_of(folder, (a, "end:50%"), (b, "all")), extra])
    assert [sample.id for sample in mixture] == ["a1", "b0", "b1", "7"]
    assert [(one.records, one.samples) for one in mixture.sets] == [(2, 1), (2, 2), (1, 1)]
    last = mixture[-1]
    assert last == mixture[3]
    assert last.images == (folder / "p.png", folder / "q.png")
    assert last.turns == (Turn("user", "<image>\n<image>\nBoth?"), Turn("assistant", "yes"))
    assert (last.file, last.line) == (extra, 2)
    assert (mixture[2].images, mixture[2].line) == ((), 2)
    with pytest.raises(IndexError):
        mixture[4]


def test_braces_name_several_files_and_relative_paths_are_looked_up_beside_the_mixture(folder: Path) -> None:
    put(folder, "m_a.json", [record("a")])
    put(folder, "m_b.json", [record("b")])
    assert ids(folder / "m_{a,b}.json") == ["a", "b"]
    assert ids(mixture_of(folder, (Path("m_b.json"), "all"))) == ["b"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_marks_line_ends_and_letters_of_more_than_a_byte_move_no_record(
    folder: Path, end: str, bom: bytes
) -> None:
    records = [
        record(name, human=f"<image>\n{text}?") for name, text in [("ä", "鳥🐦"), ("b", "é" * 50), ("c", "x")]
    ]
    lines = [json.dumps(one, ensure_ascii=False) for one in records]
    whole = end.join(["[", f",{end}{end}".join(lines), "]", ""])
    (folder / "a.json").write_bytes(bom + whole.encode())
    (folder / "b.jsonl").write_bytes(bom + (end + end).join(lines).encode())
    for name in ("a.json", "b.jsonl"):
        samples = list(read_mixture([folder / name]))
        assert [sample.id for sample in samples] == ["ä", "b", "c"]
        assert samples[0].turns[0].text == "<image>\n鳥🐦?"
        assert [sample.line for sample in samples] == ([2, 4, 6] if name == "a.json" else [1, 3, 5])


def test_a_list_longer_than_what_is_read_at_once_has_every_record(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetune.mixture.record_index._CHUNK", 7)
    records = [record(str(i), human="<image>\n" + 'é\\"[{' * i) for i in range(1, 12)]
    (folder / "a.json").write_text(json.dumps(records, ensure_ascii=False, indent=2), encoding="utf-8")
    mixture = read_mixture([folder / "a.json"])
    assert [sample.id for sample in mixture] == [str(i) for i in range(1, 12)]
    assert mixture[10].turns[0].text == records[10]["conversations"][0]["value"]


def test_forms_that_people_write_mean_the_same(folder: Path) -> None:
    turns = [{"role": "user", "content": "<image>\nWhat?"}, {"role": "assistant", "content": "A cat"}]
    forms = [
        record(),
        record(images=["p.png"]),
        record(images=str(folder / "p.png")),
        {"id": "a", "images": ["p.png"], "messages": turns},
        {"sample_id": "a", "image": "p.png", "conversations": turns},
        record(human="What?\n<image>"),  # LLaVA-NeXT moves the only picture of a turn to its front
        record(human="What?<image>"),
        {**record(), "conversations": [{"from": "gpt", "value": "Hello"}, *record()["conversations"]]},
    ]
    samples = list(read_mixture([put(folder, "a.json", forms)]))
    assert {(sample.id, sample.images, sample.turns) for sample in samples} == {
        ("a", (folder / "p.png",), (Turn("user", "<image>\nWhat?"), Turn("assistant", "A cat")))
    }


def test_system_several_turns_and_inline_pictures_stay(folder: Path) -> None:
    turns = [
        {"from": "system", "value": "Be short."},
        {"from": "human", "value": "Is <image> like <image>?"},
        {"from": "gpt", "value": "No"},
        {"from": "human", "value": "And <image>?"},
        {"from": "gpt", "value": "Yes"},
    ]
    one = {"image": ["p.png", "q.png", "p.png"], "conversations": turns}
    (sample,) = read_mixture([put(folder, "a.jsonl", [one])])
    assert sample.id == "0"
    assert [turn.role for turn in sample.turns] == ["system", "user", "assistant", "user", "assistant"]
    assert [turn.text for turn in sample.turns[1::2]] == ["Is <image> like <image>?", "<image>\nAnd ?"]


def test_digest_says_whether_two_mixtures_hold_the_same(folder: Path, tmp_path: Path) -> None:
    records = [record("a"), record("b", "q.png")]
    a, b = put(folder, "a.json", records), put(folder, "b.jsonl", records[::-1])
    same = read_mixture([a]).digest
    elsewhere = tmp_path / "moved"
    elsewhere.mkdir()
    assert read_mixture([put(elsewhere, "c.json", records)], image_folder=folder).digest == same
    others = [read_mixture([b]).digest, read_mixture([mixture_of(folder, (a, "first:1"))]).digest]
    (folder / "q.png").write_bytes(b"another picture")
    assert len({same, *others, read_mixture([a]).digest}) == 4


def test_a_mixture_can_be_sent_to_a_worker_process(folder: Path) -> None:
    mixture = read_mixture([put(folder, "a.json", [record("a"), record("b")])])
    assert mixture[1].id == "b"
    assert list(pickle.loads(pickle.dumps(mixture))) == list(mixture)


def test_pictures_of_an_export_are_in_the_image_folder_of_its_manifest(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "export"
    out.mkdir()
    file = put(out, "common.json", [record()])
    manifest = {"image_folder": str(folder), "tasks": {"common": {"file": "common.json"}}}
    (out / "manifest.json").write_text(json.dumps(manifest))
    assert read_mixture([mixture_of(out, (file, "all"))])[0].images == (folder / "p.png",)
