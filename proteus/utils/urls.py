"""Addresses of remote files, without the secrets that may be in them."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from proteus.structures import DataError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_USER = re.compile(r"(?<=://)[^/\s]*@")
_QUERY = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^\s?#'\"]*)[?#][^\s'\"]*")


def is_url(text: object) -> bool:
    """Whether a text names a remote place, such as ``s3://bucket/folder``, and not a path."""
    return isinstance(text, str) and _URL.match(text) is not None


def redact(text: str) -> str:
    """Replace user names, passwords, query strings and fragments of the URLs in a text by ``***``."""
    return _QUERY.sub(r"\1?***", _USER.sub("***@", text))


def check_url(key: str, url: str) -> str:
    """Return the URL of a folder, with its protocol in lower case and without a slash at its end.

    Configs are written to logs and checkpoints, so that a URL must not hold secrets.

    Args:
        key: Config key or argument, for the message.
        url: The URL.

    Raises:
        DataError: The URL has a user name, a password, a query string or a fragment, or lacks a host or bucket. The
            message does not contain them.
    """
    try:
        parts = urlsplit(url)
        has_user = "@" in parts.netloc
    except ValueError as error:
        raise DataError(f"{key}: {redact(url)} is not a URL ({redact(str(error))})") from None
    if has_user or parts.query or parts.fragment:
        raise DataError(
            f"{key}: {redact(url)} holds a password or a query string, which would be written to logs and checkpoints; "
            "remove it, and give credentials in the environment or ~/.netrc (docs/large_data.md)"
        )
    if not parts.netloc and parts.scheme not in ("file", "memory"):
        raise DataError(f"{key}: {url} has no bucket or host; write for example s3://BUCKET/FOLDER")
    scheme, _, place = url.partition("://")
    return f"{scheme.lower()}://{place.rstrip('/')}"
