"""What classes of transformers raise where they do not take something."""


def refusals() -> tuple[type[Exception], ...]:
    """For sizes, files or calls that some class among many does not take; out of memory is among them."""
    from huggingface_hub.errors import StrictDataclassError

    content = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError)
    return (*content, RuntimeError, OSError, ImportError, StrictDataclassError)
