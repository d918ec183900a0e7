"""URLs in manifests: what is one, what was meant to be one, and where a DOI leads."""

from __future__ import annotations

import re
from urllib.parse import quote

DOI_RESOLVER = "https://doi.org/"
# Endings of hosts that folders hardly have; "pt" is missing, as PyTorch's files end so.
_ENDINGS = (
    "ai|app|at|au|be|br|ca|ch|cloud|cn|co|com|cz|de|dev|dk|edu|es|eu|fi|fr|gov|gr|hu|ie|il|in|info"
    "|int|io|it|jp|kr|net|nl|no|nz|org|ru|science|se|sg|tw|uk|us|xyz"
)
_HOST = re.compile(rf"(www\.[^/\s]+|([a-z0-9-]+\.)+({_ENDINGS}))/[^\s]", re.IGNORECASE)


def is_url(location: str) -> bool:
    """Whether a location is fetched over the network."""
    return location.lower().startswith(("https://", "http://"))


def doi_url(doi: str) -> str:
    """Where a bare DOI leads.

    >>> doi_url("10.1002/(SICI)1097<1::AID#2>3.0.CO;2-Q")
    'https://doi.org/10.1002/(SICI)1097%3C1::AID%232%3E3.0.CO;2-Q'
    """
    return DOI_RESOLVER + quote(doi, safe="/:;()")


def lacks_scheme(location: str) -> bool:
    """Whether a relative path begins as a URL does behind its ``https://``.

    >>> lacks_scheme("www.example.org/w.pth"), lacks_scheme("./www.example.org/w.pth")
    (True, False)
    """
    return _HOST.match(location) is not None
