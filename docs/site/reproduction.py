"""A page for each packaged study: what it reproduces, the published numbers, the command, and the limits."""

import re

from reference import plain

from mimic_eval.studies import Setting, Study, packaged, read_study
from mimic_eval.studies.outputs import Claim, Output, Reported

PAPERS = {
    "mimic": "MIMIC",
    "ar": "Attention Remasking",
    "sofa": "SoFA",
    "focus": "FOCUS",
}
"""The pages: the first part of the ids of their studies, and the paper's name."""

_PICTURES = "--annotations annotations/instances_val2017.json --images val2017"


def study_pages() -> dict[str, str]:
    """A page for each paper by file name, and the list of all studies."""
    studies = sorted(map(read_study, packaged()), key=lambda one: _natural(one.id))
    pages = {"studies/index.md": _index(studies)}
    for paper, name in PAPERS.items():
        sections = [_section(one) for one in studies if _paper(one) == paper]
        pages[f"studies/{paper}.md"] = "\n\n".join([f"# Reproduction: {name}", *sections]) + "\n"
    left = sorted({_paper(one) for one in studies} - set(PAPERS))
    assert not left, f"PAPERS lacks {left}"
    return pages


def _natural(name: str) -> list[tuple[bool, int | str]]:
    """Sorts ``fig10`` behind ``fig2``."""
    parts = re.split(r"(\d+)", name)
    return [(part.isdigit(), int(part) if part.isdigit() else part) for part in parts]


def _paper(study: Study) -> str:
    return study.id.partition(":")[0]


def _index(studies: list[Study]) -> str:
    rows = [
        f"| [`{one.id}`](/studies/{_paper(one)}.md#{_anchor(one)}) | {plain(one.title)} | {one.figure} |"
        for one in studies
    ]
    toctree = "\n".join(["```{toctree}", ":hidden:", "", *PAPERS, "```"])
    return "\n".join(
        [
            "# Reproduction",
            "",
            "The packaged studies: each runs the grid of a published figure or table on your model, and sets "
            "what is measured beside what is reported ([how](/studies.md)). Published numbers are shown as "
            "*reported*. They are no targets.",
            "",
            "| study | what it shows | of the paper |",
            "|---|---|---|",
            *rows,
            "",
            toctree,
            "",
        ]
    )


def _section(study: Study) -> str:
    parts = [
        f"## {study.id}: {plain(study.title)}",
        f"{study.figure} of {study.paper}.",
        "**Command.**",
        f"```text\n{_command(study)}\n```",
        _what_runs(study),
        "**What runs.**",
        _settings(study),
    ]
    if study.outputs:
        parts += ["**What is drawn.**", "\n".join(f"- {_output(one, study)}" for one in study.outputs)]
    if study.reported:
        parts += ["**Published numbers.**", *(_reported(one) for one in study.reported)]
    if study.claims:
        parts += ["**What the paper says in words.**", "\n".join(_claim(one) for one in study.claims)]
    if study.caveats:
        parts += ["**What is not comparable.**", "\n".join(f"- {plain(one)}" for one in study.caveats)]
    return "\n\n".join(parts)


def _anchor(study: Study) -> str:
    """GitHub's anchor of the section."""
    return re.sub(r"[^\w\- ]", "", f"{study.id}: {study.title}".lower()).replace(" ", "-")


def _command(study: Study) -> str:
    entries = "".join(f" \\\n    --entry {name}:key=value,..." for name in study.entries)
    built = (
        ""
        if study.data is None
        else " \\\n    --annotations annotations/instances_val2017.json --images val2017"
    )
    return (
        f"mimic reproduce {study.id} --model llava_ov_mask --pretrained FOLDER_OR_HUB_ID{entries}{built}"
        f" \\\n    --out {study.id.replace(':', '_')}"
    )


def _what_runs(study: Study) -> str:
    if study.data is None:
        docs = "The docs are those of the task folder in use (`MIMIC_DATA`, else the packaged ones)."
    elif study.data.sweeps is not None:
        names = ", ".join(f"`{one if isinstance(one, str) else one['name']}`" for one in study.data.sweeps)
        docs = f"The docs are built for it: the sweeps {names}. Without pictures they are drawn scenes."
    else:
        options = ", ".join(f"`{key}: {value}`" for key, value in (study.data.build or {}).items())
        docs = f"The docs are built for it ({options}). Without pictures they are drawn scenes."
    entries = "".join(
        f"\n- `--entry {name}:...`: {plain(what)}. Without it, its settings are left out."
        for name, what in study.entries.items()
    )
    unit = "each cell of a sweep" if study.data is not None and study.data.sweeps else "each task"
    return f"{docs} {study.docs} docs of {unit}; `--docs` changes it.{chr(10) if entries else ''}{entries}"


def _settings(study: Study) -> str:
    rows = ["| setting | `--model_args` | tasks | what is measured |", "|---|---|---|---|"]
    return "\n".join([*rows, *(_setting(one) for one in study.settings)])


def _setting(one: Setting) -> str:
    arguments = [f"{key}={value}" for key, value in one.model_args.items()]
    arguments += [f"{key}={' / '.join(map(str, values))}" for key, values in one.vary.items()]
    arguments += [f"order={' / '.join(one.orders)}"] if one.orders != ("fixed",) else []
    name = f"{one.name} (entry {one.entry})" if one.entry else one.name
    tasks = ", ".join(f"`{task}`" for task in one.tasks)
    return f"| {name} | `{', '.join(arguments)}` | {tasks} | {', '.join(one.measure)} |"


def _output(one: Output, study: Study) -> str:
    of = one.plot or " and ".join(filter(None, (one.x, one.y)))
    return f"{plain(one.title or study.title)}: {one.kind.replace('_', ' ')}{f' of `{of}`' if of else ''}"


def _reported(one: Reported) -> str:
    title = f"**{plain(one.title)}**, {plain(one.source)}{'' if one.unit == 'percent' else f', {one.unit}'}."
    columns = [
        f"{plain(column.name)}{f' (n = {column.items})' if column.items else ''}" for column in one.columns
    ]
    lines = ["| " + " | ".join(["model", "setting", *columns]) + " |", "|---|---|" + "---|" * len(columns)]
    for row in one.rows:
        model = f"{plain(row.model)}{f' ({plain(row.note)})' if row.note else ''}"
        cells = [model, row.setting, *("" if value is None else value for value in row.values)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n\n".join([title, *([plain(one.caveat)] if one.caveat else []), "\n".join(lines)])


MEASURED = {
    "sweep": "the change of the score from the first to the last value of the sweep",
    "attention": "attention",
    "flips": "the share of answers that change",
    "position": "the score by the position of the image with the answer",
    "change": "the paired change of the score",
    "score": "the score",
}
"""What the findings are that a claim is compared with."""


def _claim(one: Claim) -> str:
    what = MEASURED[one.of] + (f", {one.name}" if one.name else "")
    source = f" ({plain(one.source)})" if one.source else ""
    return f"- {plain(one.says)}{source} *Measured: {plain(what)}; expected {one.expect}.*"
