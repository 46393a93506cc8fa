"""`--model_args`: what each mask takes, third parties' masks, and the table of docs/models.md."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mimic_eval.records import UserError
from model_adapters.interventions import INTERVENTIONS
from model_adapters.interventions.block.kernel import BlockMask
from model_adapters.interventions.options import MaskOptions
from model_adapters.interventions.remasking.kernel import AttentionRemasking
from model_adapters.options import AdapterOptions, argument_table

DOCS = Path(__file__).resolve().parents[2] / "docs"


class Theirs(MaskOptions):
    """A mask of a package that is not ours."""

    default_layers = "::2"
    needs = frozenset({"sinks"})

    strength: float = 0.5

    def build(self) -> Any:
        return BlockMask(prefix=self.strength > 0.5)


class Needy(Theirs):
    """It needs what nothing provides."""

    needs = frozenset({"sink"})


class Clashing(Theirs):
    """Its argument is one that every model has."""

    pool: int = 2


def test_the_table_of_the_docs_is_that_of_the_options() -> None:
    """To renew it: python -c "from model_adapters.options import argument_table as t; print(t())"."""
    assert argument_table() in (DOCS / "models.md").read_text()


NEEDED = {"knockout": {"edges": "answer>image[target]"}}
"""Arguments that a mask has no default for."""


@pytest.mark.parametrize("name", sorted(INTERVENTIONS))
def test_each_mask_builds_with_its_defaults(name: str) -> None:
    options = AdapterOptions.parse({"mask": name, **NEEDED.get(name, {})})
    assert options.intervention().name == name
    assert options.intervention().needs == options.mask.needs
    assert (options.sinks is not None) == ("sinks" in options.mask.needs)
    assert bool(options.layer_set(6)) == (name not in ("none", "focus", "orders"))


def test_arguments_reach_the_intervention() -> None:
    chosen = AdapterOptions.parse({"mask": "ar", "links": "later_tokens", "empty_rows": "mask", "tau": "7.5"})
    made = chosen.intervention()
    assert isinstance(made, AttentionRemasking)
    assert (made.links, made.empty_rows) == ("later_tokens", "mask")
    assert chosen.sinks is not None
    assert chosen.sinks.tau == 7.5


def test_the_layers_of_var_are_those_of_its_variant_unless_given() -> None:
    """The released code edits the last layer too."""

    def layers(**given: Any) -> frozenset[int]:
        return AdapterOptions.parse({"mask": "var", **given}).layer_set(32)

    assert layers() == layers(variant="paper") == set(range(2, 31))
    assert layers(variant="released") == set(range(2, 32))
    assert layers(variant="released", layers="0-3") == set(range(4))
    with pytest.raises(UserError, match=r"mask=var changes layers 2:-1 unless .* of 3 layers has none"):
        AdapterOptions.parse({"mask": "var"}).layer_set(3)
    made = AdapterOptions.parse({"mask": "var", "variant": "released", "p": "0.8"}).intervention()
    assert (made.settings()["variant"], made.settings()["p"]) == ("released", 0.8)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mask": "bloc"}, r"Unknown mask 'bloc'\. Did you mean 'block'\?"),
        (
            {"mask": "none", "prefix": True},
            "prefix=True is not used by mask=none: leave it out, or choose mask=block$",
        ),
        ({"mask": "block", "tau": 3}, "choose mask=ar or mask=mask_only or mask=unmask_only or mask=var$"),
        ({"mask": "none", "layers": "1"}, "layers=1 is not used by mask=none"),
        ({"mask": "var", "p": 1.2}, "p must be a number of at least 0 and of at most 1, got '1.2'"),
        ({"mask": "var", "rho": "nan"}, "rho must be a number of at least 0 and of at most 1, got 'nan'"),
        ({"mask": "var", "heads": "0-3"}, r"Unknown heads '0-3'\. Valid: all, selected"),
        ({"mask": "var", "rows": "last"}, r"Unknown rows 'last'\..*Valid: after_first, after_last"),
        ({"mask": "var", "variant": "release"}, r"Unknown variant 'release'\. Did you mean 'released'\?"),
        ({"mask": "var", "alpha": 1}, "alpha=1 is not used by mask=var: leave it out, or choose mask=dab$"),
        ({"mask": "dab", "alpha": "inf"}, "alpha must be a number of at least 0, got 'inf'"),
        ({"mask": "dab", "tau": 3}, "tau=3 is not used by mask=dab"),
        ({"mask": "ar", "link": "x"}, r"Unknown model argument 'link'\. Did you mean 'links'\?"),
        ({"mask": "ar", "links": "later"}, r"Unknown links 'later'\. .*Valid: later_images, later_tokens"),
        ({"mask": "ar", "tau": "x"}, "tau must be a number above 0, got 'x'"),
        ({"mask": "ar", "tau": "nan"}, "tau must be a number above 0, got 'nan'"),
        ({"mask": "ar", "tau": -1}, "tau must be a number above 0, got '-1'"),
        (
            {"mask": "sofa", "sigma": "1.5"},
            "sigma must be a number of at least 0 and of at most 1, got '1.5'",
        ),
        (
            {"mask": "sofa", "sigma": "-0.1"},
            "sigma must be a number of at least 0 and of at most 1, got '-0.1'",
        ),
        (
            {"mask": "sofa", "sigma": "nan"},
            "sigma must be a number of at least 0 and of at most 1, got 'nan'",
        ),
        (
            {"mask": "sofa", "sigma": "half"},
            "sigma must be a number of at least 0 and of at most 1, got 'half'",
        ),
        ({"mask": "sofa", "own_image": "1"}, "own_image must be true or false, got '1'"),
        ({"prefix": "maybe"}, "prefix must be true or false, got 'maybe'"),
        ({"dtype": "int8"}, r"Unknown dtype 'int8'\."),
        ({"mask": "ar", "relevance": "clip", "grounding": "g"}, "grounding=g is not used by relevance=clip"),
        ({"mask": "json:loads"}, "mask=json:loads names no subclass of"),
        ({"mask": "no.such:Thing"}, "no.such:Thing cannot be imported"),
        ({"mask": f"{__name__}:Needy"}, r"Unknown need 'sink'\. Did you mean 'sinks'\?"),
        ({"mask": f"{__name__}:Clashing"}, "defines the argument 'pool', which exists already"),
    ],
)
def test_a_mistake_is_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        AdapterOptions.parse(given)
    assert "\n" not in str(error.value)


def test_a_mask_of_another_package_brings_its_arguments() -> None:
    options = AdapterOptions.parse({"mask": f"{__name__}:Theirs", "strength": "0.9", "allow_no_sinks": True})
    assert options.layer_set(6) == {0, 2, 4}
    made = options.intervention()
    assert isinstance(made, BlockMask)
    assert made.prefix
    assert options.sinks is not None
    assert options.sinks.allow_no_sinks


def test_wrong_arguments_are_refused_without_torch() -> None:
    code = (
        "import sys\nfrom model_adapters.options import AdapterOptions\n"
        "from mimic_eval.records import UserError\n"
        "try:\n    AdapterOptions.parse({'mask': 'ar', 'tau': 0})\nexcept UserError:\n"
        "    sys.exit('torch' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
