"""Objects of an S3 bucket, or of any server that speaks S3 and obeys `If-None-Match: *` on writing.

Address, region and credentials come from the environment, under the names the AWS tools use (AWS_ENDPOINT_URL,
AWS_REGION, AWS_ACCESS_KEY_ID, …), or from the role of the machine. They are never written, logged or passed on.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from attribution.errors import InputError
from pipeline.backends import Backend, Facts, Held, Listed
from pipeline.errors import StorageError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

try:
    import obstore
    from obstore import exceptions
    from obstore.store import S3Store
except ImportError as error:
    raise InputError(
        "conf error: paths.store=s3://… needs the package obstore; pip install 'headlight-xai[s3]'."
    ) from error

ATTEMPTS = 3
FEW = 4  # names that are asked for one by one; for more of them the folder is listed
RETRIES: RetryConfig = {
    "max_retries": 8,
    "retry_timeout": timedelta(seconds=60),
}  # a server that restarts is waited for
ADVICE = "Address, region and credentials are read from AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID and their like"
ADDRESS = re.compile(r"s3://(?P<bucket>[^/?#]+)(?:/(?P<prefix>[^?#]*))?")


class Bucket:
    """Objects below a prefix; the facts of each are its metadata, so that one request writes or reads both."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self.location = f"s3://{bucket}/{prefix}".rstrip("/")
        options: ClientConfig = {"allow_http": _endpoint().startswith("http://")}
        self._store = S3Store(bucket, prefix=prefix or None, client_options=options, retry_config=RETRIES)

    def check(self) -> None:
        """Ask for the first object, whichever it is."""
        try:
            next(iter(obstore.list(self._store, chunk_size=1)), None)
        except FAILURES as error:
            raise InputError(f"conf error: paths.store={self.location}: {_line(error)}. {ADVICE}") from error

    def write_once(self, name: str, data: bytes, facts: Facts) -> bool:
        """Conditional: of two that write at the same moment, one writes."""
        metadata = {key.replace("_", "-"): str(value) for key, value in facts.items()}
        with self._reported(name, "written"):
            return self._create(name, data, metadata, ATTEMPTS)

    def _create(self, name: str, data: bytes, metadata: dict[str, str], attempts: int) -> bool:
        """The answer to a write may be lost, and the library does not repeat conditional ones."""
        try:
            obstore.put(self._store, name, data, attributes=metadata, mode="create", use_multipart=False)
        except exceptions.AlreadyExistsError:
            return False
        except exceptions.GenericError:
            if attempts == 1:
                raise
            return self._create(name, data, metadata, attempts - 1)
        return True

    def read(self, name: str) -> Held | None:
        """One request."""
        with self._reported(name, "read"):
            try:
                result = obstore.get(self._store, name)
                return Held(bytes(result.bytes()), _facts(result.attributes))
            except FileNotFoundError:
                return None

    def present(self, folder: str, names: Collection[str]) -> set[str]:
        """Objects that are not empty."""
        if len(names) <= FEW:
            return {name for name in names if self._size(f"{folder}/{name}")}
        sizes = {listed.name.rpartition("/")[2]: listed.size for listed in self.list(folder)}
        return {name for name in names if sizes.get(name)}

    def list(self, folder: str = "") -> Iterator[Listed]:
        """A thousand to a request."""
        with self._reported(folder, "listed"):
            for chunk in obstore.list(self._store, prefix=folder or None):
                for found in chunk:
                    yield Listed(found["path"], found["size"], found["last_modified"].timestamp())

    def delete(self, *names: str) -> None:
        """A thousand to a request; S3 says the same whether or not there was such an object."""
        with self._reported(", ".join(names[:1]), "deleted"):
            obstore.delete(self._store, names)

    def _size(self, name: str) -> int:
        with self._reported(name, "read"):
            try:
                return int(obstore.head(self._store, name)["size"])
            except FileNotFoundError:
                return 0

    @contextmanager
    def _reported(self, name: str, done: str) -> Iterator[None]:
        try:
            yield
        except FAILURES as error:
            raise StorageError(
                f"paths.store={self.location}: {name} cannot be {done}: {_line(error)}. {ADVICE}"
            ) from error


FAILURES = (exceptions.BaseError, OSError, ValueError)


def open_backend(location: str) -> Backend:
    """The bucket and prefix of an address. Raises `InputError` where it is not one."""
    address = ADDRESS.fullmatch(location)
    if address is None:
        raise InputError(f"conf error: paths.store={location} is not an address; write s3://bucket/prefix.")
    try:
        return Bucket(address["bucket"], (address["prefix"] or "").strip("/"))
    except FAILURES as error:
        raise InputError(f"conf error: paths.store={location}: {_line(error)}.") from error


def _endpoint() -> str:
    return (
        os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
        or os.environ.get("AWS_ENDPOINT", "")
    )


def _facts(attributes: Mapping[Any, str]) -> Facts:
    return {str(key).replace("-", "_"): value for key, value in attributes.items()}


def _line(error: Exception) -> str:
    """The cause alone: with its requests and their retries, the library's message takes a page."""
    text = " ".join(str(error).split())
    if answer := re.search(r"<Code>(.*?)</Code>.*?<Message>(.*?)</Message>", text):
        return f"{answer[1]}: {answer[2]}".rstrip(". ")
    return text.partition(" Debug source")[0][:300].rstrip(". ")
