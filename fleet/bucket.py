"""A bucket of an S3-compatible object store: what the hub puts there, lists, clears and gives out.

Signing is botocore's (AWS Signature V4). The keys come from the environment or from a file that
only the hub can read; they stand in no log, no message and no argument. Devices get addresses that
are good for minutes, and nothing else. Refuses to touch what is not named as this hub names it.
"""

from __future__ import annotations

import http.client
import re
import secrets
import ssl
import stat
import urllib.request
from io import RawIOBase
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from fleet.config import BucketConfig
from fleet.errors import BucketFailed, BucketUnusable
from fleet.settings import BucketKeys

MAX_LISTED = 10_000
"""Objects below the prefix; a hub has one for each large release that is on its way."""
_PAGE = 1_000
_OURS = re.compile(r"[0-9a-f]{64}\.pack\Z")
_MAX_KEYS_BYTES = 16_384
_CONNECT_S, _READ_S = 10, 60


class _KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    access_key_id: str
    secret_access_key: str
    session_token: str = ""


def find_keys(config: BucketConfig, environment: BucketKeys | None) -> BucketKeys:
    """The environment's keys, or those of the file that `hub.json` names; raises `BucketUnusable`,
    with no word of what the file holds."""
    if environment is not None:
        return environment
    if config.credentials_file is None:
        raise BucketUnusable(
            "no keys for the bucket: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a"
            " file of mode 0600 as credentials_file"
        )
    path = Path(config.credentials_file)
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(path.stat().st_mode) & 0o077:
                raise BucketUnusable(f"{path} can be read by others: chmod 600 {path}")
            found = msgspec.json.decode(file.read(_MAX_KEYS_BYTES), type=_KeyFile)
    except OSError as error:
        raise BucketUnusable(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise BucketUnusable(
            f'{path} is not {{"access_key_id": "…", "secret_access_key": "…"}}'
        ) from None  # the cause quotes what it could not read
    return BucketKeys(found.access_key_id, found.secret_access_key, found.session_token)


class Bucket:
    """One bucket below one prefix. Any thread may call it."""

    def __init__(self, config: BucketConfig, keys: BucketKeys) -> None:
        """Asks nobody yet. Raises `BucketUnusable` where botocore is not installed."""
        self.config = config
        self._client = _client(config, keys, config.endpoint)
        outside = config.device_endpoint or config.endpoint
        same = outside == config.endpoint
        self._outside = self._client if same else _client(config, keys, outside)

    def sizes(self) -> dict[str, int]:
        """Names and lengths of this hub's objects; raises `BucketFailed`."""
        found: dict[str, int] = {}
        more: dict[str, str] = {}
        for _ in range(MAX_LISTED // _PAGE):
            page = self._call("list_objects_v2", Prefix=self.config.prefix, MaxKeys=_PAGE, **more)
            try:
                found.update(self._named(page))
                if not page.get("IsTruncated"):
                    return found
                more = {"ContinuationToken": page["NextContinuationToken"]}
            except KeyError as error:
                raise BucketFailed(
                    f"bucket {self.config.bucket} gives no listing: {error} is absent"
                ) from error
        raise BucketFailed(
            f"more than {MAX_LISTED} objects stand below {self.config.prefix!r} in"
            f" {self.config.bucket}: give the hub a prefix of its own"
        )

    def _named(self, page: dict[str, Any]) -> dict[str, int]:
        """Of one page of a listing: what is named as this hub names it."""
        prefix = self.config.prefix
        sizes = {
            each["Key"].removeprefix(prefix): each["Size"] for each in page.get("Contents", ())
        }
        return {name: size for name, size in sizes.items() if _OURS.match(name)}

    def put(self, name: str, body: RawIOBase | bytes) -> None:
        """Store an object, whole or not at all; raises `BucketFailed`."""
        self._call("put_object", Key=self._key(name), Body=body)

    def delete(self, name: str) -> None:
        """Being absent already is fine; raises `BucketFailed`."""
        self._call("delete_object", Key=self._key(name))

    def address(self, name: str) -> str:
        """Where the object can be read for `address_seconds`, by whoever has the address."""
        named = {"Bucket": self.config.bucket, "Key": self._key(name)}
        address = self._outside.generate_presigned_url(
            "get_object", Params=named, ExpiresIn=self.config.address_seconds
        )
        assert isinstance(address, str)  # noqa: S101 - botocore has no types
        return address

    def _key(self, name: str) -> str:
        if not _OURS.match(name):
            raise BucketFailed(f"{name[:80]!r} is not a name of this hub's")
        return self.config.prefix + name

    def _call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

        try:
            answer = getattr(self._client, operation)(Bucket=self.config.bucket, **parameters)
        except (BotoCoreError, ClientError, HTTPClientError, OSError) as error:
            # The store's own words, in part: on one line, and nothing that a terminal obeys.
            said = "".join(c if c.isprintable() else "\ufffd" for c in str(error)[:300])
            raise BucketFailed(f"bucket {self.config.bucket}, {operation}: {said}") from error
        assert isinstance(answer, dict)  # noqa: S101 - botocore has no types
        return answer


def try_bucket(bucket: Bucket) -> None:
    """Put an object, find it in a listing, read it by its address, clear it; raises `BucketFailed`
    that says which of these failed."""
    probe, name = secrets.token_bytes(1_000), secrets.token_hex(32) + ".pack"
    bucket.put(name, probe)
    try:
        if bucket.sizes().get(name) != len(probe):
            raise BucketFailed(f"{bucket.config.bucket} does not list what was put into it")
        if _read(bucket, bucket.address(name)) != probe[10:20]:
            raise BucketFailed(f"{bucket.config.bucket} gives other bytes than were put into it")
    finally:
        bucket.delete(name)


def _read(bucket: Bucket, address: str) -> bytes:
    """Some bytes out of the middle, as a device reads them."""
    context = ssl.create_default_context(cafile=bucket.config.ca_file)
    request = urllib.request.Request(address, headers={"Range": "bytes=10-19"})  # noqa: S310 - made by us, for the operator's endpoint
    try:
        with urllib.request.urlopen(request, timeout=_READ_S, context=context) as answer:  # noqa: S310 - the same
            return bytes(answer.read(20))
    except (OSError, http.client.HTTPException) as error:
        host = urlsplit(address).hostname
        raise BucketFailed(f"a signed address at {host} cannot be read: {error}") from error


def _client(config: BucketConfig, keys: BucketKeys, endpoint: str) -> Any:
    try:
        from botocore.config import Config
        from botocore.session import Session
    except ImportError as error:
        raise BucketUnusable("a bucket needs botocore: pip install 'outrider[s3]'") from error
    style = "virtual" if config.virtual_host else "path"
    # Stores other than Amazon's know no checksums in trailers; the payload is signed instead.
    settings = Config(
        signature_version="s3v4",
        s3={"addressing_style": style},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        connect_timeout=_CONNECT_S,
        read_timeout=_READ_S,
        retries={"total_max_attempts": 3, "mode": "standard"},
    )
    try:
        return Session().create_client(
            "s3",
            endpoint_url=endpoint,
            region_name=config.region,
            aws_access_key_id=keys.access_key_id,
            aws_secret_access_key=keys.secret_access_key,
            aws_session_token=keys.session_token or None,
            verify=config.ca_file,
            config=settings,
        )
    except Exception as error:
        raise BucketUnusable(f"bucket {config.bucket}: {str(error)[:300]}") from error
