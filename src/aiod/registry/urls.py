"""URLs in manifests: what is one, and what was meant to be one."""

from __future__ import annotations

import re

# Endings of hosts that folders hardly have; "pt" is missing, as PyTorch's files end so.
_ENDINGS = (
    "ai|app|at|au|be|br|ca|ch|cloud|cn|co|com|cz|de|dev|dk|edu|es|eu|fi|fr|gov|gr|hu|ie|il|in|info"
    "|int|io|it|jp|kr|net|nl|no|nz|org|ru|science|se|sg|tw|uk|us|xyz"
)
_HOST = re.compile(rf"(www\.[^/\s]+|([a-z0-9-]+\.)+({_ENDINGS}))/[^\s]", re.IGNORECASE)


def is_url(location: str) -> bool:
    """Whether a location is fetched over the network."""
    return location.lower().startswith(("https://", "http://"))


def lacks_scheme(location: str) -> bool:
    """Whether a relative path begins as a URL does behind its ``https://``.

    >>> lacks_scheme("www.example.org/w.pth"), lacks_scheme("./www.example.org/w.pth")
    (True, False)
    """
    return _HOST.match(location) is not None
