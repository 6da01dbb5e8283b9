"""Measure how fast shards are read from an object store on loopback, in comparison with a local folder.

The shards hold random bytes. One process reads every image once, in the order of ``ShardSampler``, and decodes nothing:
from the folder; from the server with an empty cache, with read-ahead; and again from the full cache. The server is a
separate process: moto's S3 server, or a plain web server. Both share the cores and the memory with the reader, so
the figures are a lower bound of the client, and not the bandwidth of a network.

Example:
  pip install -e '.[remote]' 'moto[s3]' flask flask-cors
  python benchmarks/remote_shards.py --server s3 --pairs 3
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from itertools import islice
from pathlib import Path
from statistics import median

from measure import write_json

from proteus.datasets import ShardSampler, WebShards
from proteus.datasets.shards.index import read_index
from proteus.datasets.shards.remote_folder import RemoteFolder

_READY = 120  # seconds that the server may take to start


def main(argv: Sequence[str] | None = None) -> None:
    """Print images/s and MB/s of the three ways."""
    args = _parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "shards"
        _write_shards(folder, args.shards, args.per_shard, args.kilobytes * 1000)
        rates: dict[str, list[float]] = {}
        with _server(args.server, folder) as url:
            for number in range(args.pairs):
                cache = str(Path(temporary) / f"cache{number}")
                for name, root in (("disk", str(folder)), ("first epoch", url), ("from the cache", url)):
                    rates.setdefault(name, []).append(_rate(root, cache))
                shutil.rmtree(cache)
    for name, found in rates.items():
        print(
            f"{name:15} {median(found):8,.0f} images/s ({min(found):,.0f} to {max(found):,.0f}), "
            f"{median(found) * args.kilobytes / 1000:6,.0f} MB/s, {median(found) / median(rates['disk']):.2f} x disk"
        )
    write_json(args.json, rates=rates)


def _rate(root: str, cache: str) -> float:
    proxy = WebShards(root, cache_dir=cache)
    sampler = ShardSampler(proxy, seed=0, lanes=2, window=2)
    began = time.perf_counter()
    for key in islice(iter(sampler), len(proxy)):
        proxy.fetch_ahead(key.image, key.epoch)
        proxy.get_data_info(key.image)
    return len(proxy) / (time.perf_counter() - began)


def _write_shards(folder: Path, shards: int, per_shard: int, size: int) -> None:
    folder.mkdir()
    for shard in range(shards):
        with tarfile.open(folder / f"{shard:05}.tar", "w") as tar:
            for image in range(per_shard):
                member = tarfile.TarInfo(f"{shard:05}{image:05}.jpg")
                member.size = size
                tar.addfile(member, BytesIO(os.urandom(size)))
    read_index(folder)


@contextmanager
def _server(kind: str, folder: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if kind == "s3":
        command = ["-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    else:
        command = ["-m", "http.server", "--bind", "127.0.0.1", "--directory", str(folder), str(port)]
    server = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port)
        yield _upload(port, folder) if kind == "s3" else f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def _upload(port: int, folder: Path) -> str:
    import boto3

    values = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ.update(values, AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}")
    boto3.client("s3").create_bucket(Bucket="proxy")
    remote = RemoteFolder("s3://proxy/set")
    for path in sorted(folder.iterdir()):
        remote.upload(path, path.name)
    return remote.url


def _wait_for(port: int) -> None:
    for _ in range(_READY * 10):
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError("the server did not start")


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", choices=("s3", "http"), default="s3")
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--per-shard", type=int, default=500)
    parser.add_argument("--kilobytes", type=int, default=30, help="size of an image")
    parser.add_argument("--pairs", type=int, default=3, help="repetitions of the three ways in turn")
    parser.add_argument("--json", help="file for the results")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
