"""A checkpoint's chat template is a program: it gets a limit of time, and no file or import.

transformers runs templates in Jinja's sandbox. The limit is a trace function, which works in any thread. It
counts the thread's CPU time, so that a suspended process or a loaded machine stops no template.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from mimic_eval.records import UserError

SECONDS = 10.0
_JINJA = ("<template>", "<unknown>")


@contextmanager
def limited(seconds: float | None = None) -> Iterator[None]:
    """Within it, templates are rendered in a limited time, and what they raise is one line.

    Args:
        seconds: None: `SECONDS`.

    Raises:
        UserError: a template that takes longer, or that fails.
    """
    from jinja2 import TemplateError

    limit = SECONDS if seconds is None else seconds
    end = time.thread_time() + limit

    def watch(frame: FrameType, event: str, argument: Any) -> Any:
        if time.thread_time() > end:
            raise UserError(
                f"the checkpoint's chat template has not ended after {limit:g} s of CPU time: it is not used"
            )
        return watch if frame.f_code.co_filename in _JINJA else None

    before = sys.gettrace()
    sys.settrace(watch)
    try:
        yield
    except (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        raise UserError(f"the checkpoint's chat template cannot be used: {_line(error)}") from error
    except (RecursionError, MemoryError) as error:
        raise UserError(f"the checkpoint's chat template needs too much: {type(error).__name__}") from error
    finally:
        sys.settrace(before)


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
