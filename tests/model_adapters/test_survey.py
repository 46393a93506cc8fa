"""`mimic families`: each way in which a model type is taken, and the page."""

import re
from pathlib import Path

import pytest

from mimic_eval.records import UserError
from model_adapters.survey import WAYS, Line, survey, try_type
from model_adapters.survey_page import count_line, page, text_line
from tests.conftest import Command

ROOT = Path(__file__).resolve().parents[2]
LINES = [
    Line("llava", "by name", ("llava_mask", "llava_ov_mask"), places=True, none=1e-6, block=2e-6),
    Line("gemma3", "by hf_mask", ("hf_mask",), masks="sliding window (5)", none=3e-7, block=4e-7),
    Line("mllama", "refused", reason="images do not reach the decoder | <as> tokens"),
    Line("chameleon", "not tried", reason="model: AttributeError"),
]


def test_a_named_type_one_of_hf_mask_and_a_refused_one(capsys: pytest.CaptureFixture[str]) -> None:
    named, found, refused = survey(["llava", "cohere2_vision", "t5gemma2"])
    assert (named.way, named.models) == ("by name", ("llava_mask", "llava_ov_mask"))
    assert (found.way, found.models, found.places) == ("by hf_mask", ("hf_mask",), False)
    assert found.masks == "sliding window (3); causal (1)"
    for line in (named, found):
        assert 0 < line.block < 1e-5
        assert line.none < 1e-5
    assert refused.way == "refused"
    assert refused.reason == "it is an encoder-decoder: its images are not tokens of the decoder's sequence"


def test_a_type_of_which_no_checkpoint_is_made_says_so() -> None:
    line = try_type("vision-encoder-decoder")
    assert (line.way, line.reason) == (
        "not tried",
        "processor: NoClass: transformers names no processor for it",
    )


def test_an_unknown_type_is_one_line() -> None:
    with pytest.raises(UserError, match=r"Unknown model type 'gema3'\. Did you mean 'gemma3'\?"):
        list(survey(["gema3"]))


def test_the_page_has_each_type_once_with_its_reason() -> None:
    made = page(LINES)
    assert "4 model types: 1 by name, 1 by hf_mask, 1 refused, 1 not tried." in made
    assert "| llava | `llava_mask`, `llava_ov_mask` | - | yes | 1e-06 | 2e-06 |" in made
    assert "| gemma3 | `hf_mask` | sliding window (5) | no | 3e-07 | 4e-07 |" in made
    assert "| mllama | images do not reach the decoder \\| &lt;as> tokens |" in made
    assert made.index("## Taken") < made.index("## Refused") < made.index("## Not tried")
    assert text_line(LINES[0]).endswith("llava_mask, llava_ov_mask: none 1e-06, block 2e-06")
    assert text_line(LINES[2]).startswith("mllama ")


def test_the_kept_page_lists_what_transformers_registers() -> None:
    from model_adapters.tiny.any_type import model_types

    kept = (ROOT / "docs/families.md").read_text()
    listed = re.findall(r"^\| ([\w.-]+) \|", kept, re.MULTILINE)
    assert set(model_types()) <= set(listed)
    assert len(listed) == len(set(listed))
    (counted,) = re.findall(r"^(\d+) model types: (.*)\.$", kept, re.MULTILINE)
    numbers = [int(number) for number in re.findall(r"\d+", counted[1])]
    assert sum(numbers) == int(counted[0]) == len(listed)
    assert all(way in counted[1] for way in WAYS)
    assert count_line([]) == "0 model types: 0 by name, 0 by hf_mask, 0 refused, 0 not tried"


def test_the_command_prints_a_line_and_writes_the_page(command: Command, tmp_path: Path) -> None:
    done = command("mimic", "families", "--type", "llava", "--write", tmp_path / "new" / "families.md")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^llava +llava_mask, llava_ov_mask: none \de-\d+, block", done.stdout, re.MULTILINE)
    assert "| llava | `llava_mask`" in (tmp_path / "new" / "families.md").read_text()
    wrong = command("mimic", "families", "--type", "lava")
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)
    assert "Unknown model type 'lava'. Did you mean 'llava'?" in wrong.stderr
