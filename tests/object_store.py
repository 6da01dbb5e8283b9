"""An S3 server on loopback, and a web server that can fail; for the tests of remote shards."""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BUCKET = "proxy"
SECRET = "not-a-real-secret-key"


@contextmanager
def s3_server() -> Iterator[str]:
    """Run moto's server, make a bucket, and set the environment as a user would; yields the endpoint."""
    import boto3
    import fsspec
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    values = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield endpoint
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
        fsspec.filesystem("s3").clear_instance_cache()
        server.stop()


class WebServer(ThreadingHTTPServer):
    """Serve a folder on loopback.

    Attributes:
        failures: Statuses that the next requests of a file get, by its name.
        gets: Number of successful downloads by name.
        headers: Authorization headers that were seen.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))
        self.failures: dict[str, list[int]] = {}
        self.gets: Counter[str] = Counter()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> WebServer:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.shutdown()
        self.server_close()


class _Handler(SimpleHTTPRequestHandler):
    server: WebServer

    def send_head(self) -> Any:
        name = self.path.rpartition("/")[2]
        if self.server.failures.get(name):
            self.send_error(self.server.failures[name].pop(0))
            return None
        if self.command == "GET":
            self.server.gets[name] += 1
        return super().send_head()

    def log_message(self, *_: Any) -> None:
        pass
