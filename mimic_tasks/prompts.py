"""The frame around a question (METHODS 2, 2.1); the wordings of the questions are in `mimic_tasks/specs`.

The texts are frozen: a snapshot in the tests makes every change of one visible.
"""

from mimic_tasks.task_spec import spec_of


def framed(question: str) -> str:
    """The text a model gets after the images."""
    return f"Question: {question}\nAnswer:"


def framed_official(kind: str, question: str) -> str:
    """The official release's text for its questions (METHODS 2.1)."""
    frame = spec_of(kind).official_frame
    return framed(question) if frame is None else frame.format(question=question)
