"""Folders of object stores and web servers, through fsspec, with logged retries and errors of one line."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from mmengine.logging import print_log

from proteus.structures import DataError
from proteus.utils.atomic import is_disk_full
from proteus.utils.text import printable
from proteus.utils.urls import check_url, redact

ATTEMPTS = 6
FIRST_WAIT = 1.0  # seconds; doubled after each attempt
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "http": "aiohttp", "https": "aiohttp"}
_NO_LISTING = ("http", "https")
# Listings change while shards are packed. aiohttp reads ~/.netrc only if it is asked to.
_OPTIONS: dict[str, dict[str, Any]] = {
    **{scheme: {"client_kwargs": {"trust_env": True}} for scheme in ("http", "https")},
    **{scheme: {"use_listings_cache": False} for scheme in ("s3", "s3a", "gs", "gcs")},
}
_TAGS = ("ETag", "etag", "md5Hash", "Content-MD5", "Last-Modified", "mtime", "created")
_CREDENTIALS = {
    "s3fs": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gcsfs": "set GOOGLE_APPLICATION_CREDENTIALS",
    "aiohttp": "put user name and password into ~/.netrc",
}
# Errors of botocore and google-auth without an HTTP status.
_NO_CREDENTIALS = {
    *("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "CredentialRetrievalError"),
    *("TokenRetrievalError", "SSOTokenLoadError", "UnauthorizedSSOTokenError", "DefaultCredentialsError"),
}
Result = TypeVar("Result")


class MissingError(DataError):
    """A remote file or folder that does not exist."""


class Stat(NamedTuple):
    """State of a remote file.

    Attributes:
        size: Size in bytes; -1 if the server does not report it.
        tag: ETag, checksum or time of change; empty if the server reports none.
    """

    size: int
    tag: str


class RemoteFolder:
    """Folder at a URL such as ``s3://bucket/folder``.

    Credentials come from the environment and the files that the protocol's own tools read. Failures other than missing
    files and refused credentials are retried with growing waits; each wait is logged.

    Args:
        url: The URL; protocols of fsspec, such as ``s3``, ``gs``, ``https``, ``file`` and ``memory``.
        key: Config key or argument that named the URL, for messages.

    Raises:
        DataError: The URL holds credentials or a query string, or its protocol is unknown.
        ModuleNotFoundError: The package for the protocol is missing; the message names it.
    """

    def __init__(self, url: str, key: str = "dataset.data_root") -> None:
        self.key = key
        self.url = check_url(key, url)
        self.scheme = urlsplit(url).scheme.lower()
        self.can_list = self.scheme not in _NO_LISTING
        _ = self._system

    def list(self) -> dict[str, Stat]:
        """Return the files of the folder.

        Raises:
            MissingError: The folder does not exist.
            DataError: The folder cannot be listed.
        """
        entries = self._attempt("", lambda: self._system.ls(self.url, detail=True, refresh=True))
        return {entry["name"].rpartition("/")[2]: _stat(entry) for entry in entries if entry["type"] == "file"}

    def stat(self, name: str) -> Stat:
        """Return the state of a file.

        Raises:
            MissingError: The file does not exist.
            DataError: The file cannot be reached.
        """
        return _stat(self._attempt(name, lambda: self._system.info(f"{self.url}/{name}")))

    def download(self, name: str, path: Path) -> None:
        """Copy a file to this machine.

        Raises:
            MissingError: The file does not exist.
            DataError: The file cannot be read.
            OSError: The disk of this machine is full.
        """
        self._attempt(name, lambda: self._system.get_file(f"{self.url}/{name}", str(path)))

    def upload(self, path: Path, name: str) -> Stat:
        """Copy a file of this machine to the folder, and check its size there.

        Raises:
            MissingError: The bucket does not exist.
            DataError: The file cannot be written, or arrived with another size.
        """
        if self.scheme in ("file", "memory"):
            self._attempt("", lambda: self._system.makedirs(self.url, exist_ok=True))
        try:
            self._attempt(name, lambda: self._system.put_file(str(path), f"{self.url}/{name}"))
        except MissingError:
            raise MissingError(
                f"{self.key}: {self.url}: the bucket does not exist; create it, or check the URL"
            ) from None
        stat = self.stat(name)
        if stat.size != path.stat().st_size:
            raise DataError(
                f"{self.key}: {self.url}/{name} has {stat.size:,} bytes after writing {path.stat().st_size:,}; "
                "give the same command again"
            )
        return stat

    def remove(self, name: str) -> None:
        """Remove a file.

        Raises:
            DataError: The file cannot be removed.
        """
        self._attempt(name, lambda: self._system.rm_file(f"{self.url}/{name}"))

    @property
    def _system(self) -> Any:
        """The file system of this process and thread; fsspec keeps it."""
        try:
            import fsspec

            system = fsspec.filesystem(self.scheme, **_OPTIONS.get(self.scheme, {}))
        except ImportError as error:
            package = _PACKAGES.get(self.scheme, "a package of fsspec")
            raise ModuleNotFoundError(
                f"{self.key}: {self.scheme}:// needs {package}; pip install 'proteus-toolbox[remote]' installs it"
            ) from error
        except ValueError as error:
            raise DataError(
                f"{self.key}: {self.url}: unknown protocol; choose from s3://, gs://, https:// and file://"
            ) from error
        if hasattr(system, "retries"):
            system.retries = 1  # s3fs and gcsfs would retry silently
        return system

    def _attempt(self, name: str, action: Callable[[], Result]) -> Result:
        place, wait = f"{self.url}/{name}".rstrip("/"), FIRST_WAIT
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return action()
            except (ModuleNotFoundError, DataError, TypeError, AttributeError, NotImplementedError):
                raise  # a missing package, bad data or a bug: trying again does not help
            except Exception as error:  # each protocol has its own types
                if is_disk_full(error):
                    raise
                cause = list(_chain(error))[-1] if isinstance(error, FileNotFoundError) else error
                found = printable(redact(f"{type(cause).__name__}: {cause}"), 200)
                self._raise_if_final(place, error, found)
                if attempt == ATTEMPTS:
                    raise DataError(
                        f"{self.key}: {place} cannot be reached after {ATTEMPTS} attempts ({found}); check the address "
                        "and the network, then resume"
                    ) from None
                print_log(f"{place}: {found}; attempt {attempt + 1} of {ATTEMPTS} follows in {wait:g} s", "current", 30)
                time.sleep(wait)
                wait *= 2
        raise AssertionError

    def _raise_if_final(self, place: str, error: Exception, found: str) -> None:
        statuses = {_status(each) for each in _chain(error)}
        names = {type(each).__name__ for each in _chain(error)}
        # fsspec reports any failed HEAD request of a web server as a missing file, with its cause.
        is_missing = isinstance(error, FileNotFoundError) and (self.can_list or error.__cause__ is None)
        if statuses & {404, 410} or (is_missing and statuses == {0}):
            raise MissingError(f"{self.key}: {place} does not exist; check the URL") from None
        if isinstance(error, PermissionError) or statuses & {401, 403} or names & _NO_CREDENTIALS:
            remedy = _CREDENTIALS.get(_PACKAGES.get(self.scheme, ""), "change its mode")
            raise DataError(f"{self.key}: {place}: access denied ({found}); {remedy}") from None


def _stat(info: dict[str, Any]) -> Stat:
    tag = next((str(info[key]) for key in _TAGS if info.get(key)), "")
    return Stat(-1 if info.get("size") is None else int(info["size"]), tag.strip('"'))


def _status(error: BaseException) -> int:
    """HTTP status of an error of aiohttp, gcsfs or botocore; 0 for others."""
    response = getattr(error, "response", None)
    found = response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(response, dict) else None
    for key in ("status", "code"):
        found = found or getattr(error, key, None)
    text = str(found)
    return int(text) if text.isdigit() and int(text) >= 400 else 0


def _chain(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__
