"""Weight files in the local cache of the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from proteus.checkpoints.errors import CheckpointError, first_sentence


def cached_file(repository: str, file: str) -> Path | None:
    """Return the path of a file of a repository if it is in the cache; nothing is downloaded."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(repository, file)
    except HFValidationError as error:
        raise CheckpointError(f"{repository!r} is not the id of a repository ({first_sentence(error)})") from error
    return Path(found) if isinstance(found, str) else None


def download_file(repository: str, file: str) -> Path:
    """Download a file of a repository into the cache.

    Raises:
        CheckpointError: The repository has no such file, needs a login, or cannot be reached.
    """
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, file))
    except Exception as error:  # HTTP, offline mode, login: the hub raises many types
        raise CheckpointError(
            f"{file} of https://huggingface.co/{repository} cannot be downloaded ({first_sentence(error)})"
        ) from error
