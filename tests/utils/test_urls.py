import pytest

from proteus.structures import DataError
from proteus.utils.urls import check_url, is_url, redact

SECRET = "hunter2"


def test_urls_differ_from_paths() -> None:
    assert all(map(is_url, ["s3://b/f", "https://h", "memory://x", "S3://b"]))
    assert not any(map(is_url, ["data/s3", "/a/b", "C:/a", "s3:/b", "", "~/x", None]))


@pytest.mark.parametrize(
    "url",
    [
        f"https://user:{SECRET}@host/set",
        f"https://{SECRET}@host/set",
        f"https://host/set?X-Amz-Signature={SECRET}",
        f"s3://bucket/set#{SECRET}",
        f"https://[{SECRET}@host/set?{SECRET}",
        f"https://user:p@{SECRET}@host/set",
    ],
)
def test_urls_with_secrets_are_refused_without_repeating_them(url: str) -> None:
    with pytest.raises(DataError, match=r"dataset\.data_root: ") as refused:
        check_url("dataset.data_root", url)
    assert SECRET not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_urls_without_a_bucket_are_refused() -> None:
    with pytest.raises(DataError, match="has no bucket or host"):
        check_url("target", "s3:///folder")
    assert check_url("target", "s3://bucket/folder/") == "s3://bucket/folder"
    assert check_url("target", "file:///data") == "file:///data"
    assert check_url("target", "S3://Bucket/Folder") == "s3://Bucket/Folder"


def test_secrets_inside_a_message_are_replaced() -> None:
    text = f"GET 'https://a:{SECRET}@h/x.tar?sig={SECRET}' failed, then s3://b/x.tar?y={SECRET} (code 7)"
    assert redact(text) == "GET 'https://***@h/x.tar?***' failed, then s3://b/x.tar?*** (code 7)"
