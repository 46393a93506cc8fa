"""Out of memory, as opposed to other failures."""

import torch


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a computation failed because the device or the host has too little memory.

    torch has a class of its own for accelerators; on a CPU its allocator raises a plain RuntimeError.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def release() -> None:
    """Give cached blocks back to the accelerator, so that a smaller batch finds room in one piece."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
