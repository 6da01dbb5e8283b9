import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from botocore.exceptions import ProfileNotFound
from object_store import BUCKET, SECRET, WebServer

from proteus.datasets.shards import remote_folder
from proteus.datasets.shards.remote_folder import MissingError, RemoteFolder
from proteus.structures import DataError


@pytest.fixture
def web(tmp_path: Path) -> Iterator[WebServer]:
    (tmp_path / "site").mkdir()
    (tmp_path / "site/0.tar").write_bytes(b"content")
    with WebServer(tmp_path / "site") as server:
        yield server


def test_two_failures_are_retried_and_logged(web: WebServer, cache: Path, tmp_path: Path, lines: list[str]) -> None:
    web.failures["0.tar"] = [503, 503]
    RemoteFolder(web.url).download("0.tar", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"content"
    waits = [line for line in lines if line.startswith(f"{web.url}/0.tar: ")]
    assert [line.rpartition("; ")[2] for line in waits] == [
        "attempt 2 of 6 follows in 0.01 s",
        "attempt 3 of 6 follows in 0.02 s",
    ]
    assert "503" in waits[0]


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (404, r"/0\.tar does not exist; check the URL"),
        (403, r"/0\.tar: access denied \(.*403.*\); put user name and password into ~/\.netrc"),
        (401, r"/0\.tar: access denied \(.*401"),
        (
            500,
            r"/0\.tar cannot be reached after 6 attempts \(.*500.*\); check the address and the network, then resume",
        ),
    ],
)
def test_failures_of_a_server_are_one_line(web: WebServer, cache: Path, status: int, message: str) -> None:
    for action in ("stat", "download"):
        # A HEAD request that fails is repeated as GET by fsspec.
        web.failures["0.tar"] = [status] * 12
        remote = RemoteFolder(web.url)
        with pytest.raises(DataError, match=message) as refused:
            remote.stat("0.tar") if action == "stat" else remote.download("0.tar", cache.parent / "copy")
        assert "\n" not in str(refused.value)
        assert isinstance(refused.value, MissingError) == (status == 404)


def test_an_unreachable_host_is_named_with_the_cause(web: WebServer, cache: Path) -> None:
    web.server_close()
    with pytest.raises(
        DataError, match=r"http://127\.0\.0\.1:\d+/0\.tar cannot be reached after 6 attempts \(.*Connect"
    ):
        RemoteFolder(web.url).stat("0.tar")


@pytest.mark.parametrize(("scheme", "package"), [("gs", "gcsfs"), ("s3", "s3fs"), ("https", "aiohttp")])
def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch, scheme: str, package: str) -> None:
    for name in list(sys.modules):
        if name.split(".")[0] == package:
            monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "fsspec.implementations.http", raising=False)
    monkeypatch.delitem(import_module("fsspec.registry")._registry, scheme, raising=False)
    with pytest.raises(
        ModuleNotFoundError,
        match=rf"dataset\.data_root: {scheme}:// needs {package}; pip install 'proteus-toolbox\[remote\]' installs it",
    ):
        RemoteFolder(f"{scheme}://bucket/folder")


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(DataError, match=r"abc://x/y: unknown protocol; choose from s3://"):
        RemoteFolder("abc://x/y")


def test_s3_files_are_listed_with_sizes_and_tags(s3: str, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"one")
    remote = RemoteFolder(f"s3://{BUCKET}/listed/")
    written = remote.upload(tmp_path / "a.tar", "a.tar")
    assert remote.list() == {"a.tar": written}
    assert (written.size, len(written.tag)) == (3, 32)
    (tmp_path / "a.tar").write_bytes(b"two")
    assert remote.upload(tmp_path / "a.tar", "a.tar").tag != written.tag
    remote.remove("a.tar")
    with pytest.raises(MissingError, match=r"s3://proxy/listed/a\.tar does not exist"):
        remote.stat("a.tar")
    with pytest.raises(MissingError, match=r"s3://nobody/x does not exist"):
        RemoteFolder("s3://nobody/x").list()
    with pytest.raises(MissingError, match=r"target: s3://nobody/x: the bucket does not exist; create it"):
        RemoteFolder("s3://nobody/x", key="target").upload(tmp_path / "a.tar", "a.tar")


@pytest.mark.parametrize(
    "refusal",
    [
        PermissionError("The AWS Access Key Id you provided does not exist in our records."),
        ProfileNotFound(profile="team"),
    ],
    ids=["key", "profile"],
)
def test_refused_credentials_name_the_variables(
    s3: str, cache: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str], refusal: Exception
) -> None:
    remote = RemoteFolder(f"s3://{BUCKET}/x")
    monkeypatch.setattr(remote._system, "info", lambda *_, **__: (_ for _ in ()).throw(refusal))
    with pytest.raises(
        DataError, match=r"s3://proxy/x/0\.tar: access denied \(.*; set AWS_ACCESS_KEY_ID and"
    ) as refused:
        remote.stat("0.tar")
    assert SECRET not in "".join([str(refused.value), *lines])
    assert lines == []  # trying again would not help


def test_secrets_in_errors_of_a_client_are_not_logged(
    web: WebServer, cache: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    remote = RemoteFolder(web.url)
    failure = OSError("GET https://me:hunter2@h/0.tar?X-Amz-Signature=hunter2 failed")
    monkeypatch.setattr(remote._system, "info", lambda *_, **__: (_ for _ in ()).throw(failure))
    with pytest.raises(
        DataError, match=r"cannot be reached after 6 attempts \(OSError: GET https://\*\*\*@h/"
    ) as refused:
        remote.stat("0.tar")
    assert len(lines) == remote_folder.ATTEMPTS - 1
    assert "hunter2" not in "".join([str(refused.value), *lines])


def test_an_upload_that_arrives_short_is_refused(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.tar").write_bytes(b"one")
    remote = RemoteFolder(f"file://{tmp_path}/there", key="target")
    monkeypatch.setattr(
        type(remote._system), "put_file", lambda self, path, url, **_: Path(url[7:]).write_bytes(b"on") and None
    )
    with pytest.raises(DataError, match=r"target: file://.*/a\.tar has 2 bytes after writing 3; give the same command"):
        remote.upload(tmp_path / "a.tar", "a.tar")
