"""An object store on this machine: a server of the S3 protocol, and what it was asked for."""

import contextlib
import logging
import os
import urllib.request
from collections.abc import Iterator
from urllib.parse import quote

import pytest


class Store:
    """A server, its client, and what it was asked for."""

    def __init__(self) -> None:
        from moto.server import ThreadedMotoServer

        log = logging.getLogger("werkzeug")
        log.setLevel(logging.INFO)
        log.propagate = False
        self.asked: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record: self.asked.append(record.getMessage())  # type: ignore[method-assign]
        log.addHandler(handler)
        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self.server.start()
        self.endpoint = "http://{}:{}".format(*self.server.get_host_and_port())
        # The server's objects are the process's, and outlive it.
        urllib.request.urlopen(f"{self.endpoint}/moto-api/reset", data=b"").close()
        import boto3

        self.client = boto3.client("s3", endpoint_url=self.endpoint, region_name="us-east-1")
        self.query = f"?endpoint_override={quote(self.endpoint, safe='')}"

    def uri(self, path: str) -> str:
        return f"s3://{quote(path)}{self.query}"

    def put(self, path: str, content: bytes) -> str:
        """Put bucket/key; its URI."""
        bucket, _, key = path.partition("/")
        self.client.put_object(Bucket=bucket, Key=key, Body=content)
        return self.uri(path)

    def gets(self, path: str) -> int:
        """How many reads of an object's bytes were answered."""
        return sum(f"GET /{quote(path)} " in line for line in self.asked)


@contextlib.contextmanager
def serving() -> Iterator[Store]:
    """A store with an empty bucket "films", which this process and its children may use. Skips
    the tests of a module if the server is not installed."""
    for module in ("moto", "flask_cors", "boto3"):
        pytest.importorskip(module)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        store = Store()
        try:
            store.client.create_bucket(Bucket="films")
            yield store
        finally:
            store.server.stop()
