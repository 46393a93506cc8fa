"""Whether the Hugging Face Hub can be reached: its client would try for half a minute."""

import socket
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies


def out_of_reach() -> str | None:
    """Why no file can be fetched from the Hub, as far as can be seen at once, or None.

    Behind a proxy nothing can be seen: the proxy looks the host up.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    address = urlsplit(constants.ENDPOINT)
    if not getproxies().keys() & {"all", address.scheme}:
        try:
            socket.getaddrinfo(address.hostname, address.port or 443)
        except OSError as error:
            return f"{address.hostname} cannot be reached: {error.strerror}"
    return None


def is_stored(repository: str) -> bool:
    """Whether a file of a model is in the Hub's cache on this machine.

    Args:
        repository: ``org/name``.
    """
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    return next(folder.glob("snapshots/*/*"), None) is not None
