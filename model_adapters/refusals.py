"""What classes of transformers raise where they do not take something."""


def refusals() -> tuple[type[Exception], ...]:
    """For sizes, files or calls that some class among many does not take; out of memory is among them."""
    from huggingface_hub.errors import StrictDataclassError

    content = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError)
    return (*content, RuntimeError, OSError, ImportError, StrictDataclassError)


def broken_files() -> tuple[type[Exception], ...]:
    """For a checkpoint's files of another content than they should have; out of memory is among them."""
    from pickle import UnpicklingError

    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    content = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
    files = (OSError, EOFError, RuntimeError, UnpicklingError, SafetensorError)
    return (*files, *content, StrictDataclassError)


def first_line(error: BaseException) -> str:
    """The first line of what was raised, with its class where the message alone may say too little."""
    line = (str(error).strip().splitlines() or [""])[0]
    return line if line and isinstance(error, OSError | ValueError) else f"{type(error).__name__}: {line}"
