"""Routes of trust and releases."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool

from fleet.api import shapes
from fleet.api.access import Actor, Hub, audited
from fleet.api.errors import Refused
from fleet.api.paging import AfterName, Limit, Name, page
from fleet.api.uploads import MAX_BUNDLE_BYTES, MAX_TRUST_BYTES, received
from fleet.ports import HubServices
from fleet.releases import Published, find_release, publish_bundle, release_report
from fleet.storage.schema import Release

router = APIRouter(tags=["releases"])
_FILE = re.compile(r"^[0-9a-z][0-9a-z.-]{0,120}\.json\Z")
# Whoever signed the bundle made the page: it may style itself, and do nothing else.
_PAGE_HEADERS = {
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline';"
    " frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-cache",
}
Word = Annotated[str, Path(max_length=63)]


@router.post("/trust")
async def import_trust(request: Request, hub: Hub, who: Actor) -> dict[str, Any]:
    """Take over the metadata that offline keys signed: the bytes of `trust.json`."""
    async with received(request, hub.directory, "trust.json", MAX_TRUST_BYTES) as path:
        return await run_in_threadpool(_import, hub, path.read_bytes(), who)


@router.get("/trust/{file}")
def trust_file(hub: Hub, who: Actor, file: Annotated[str, Path(max_length=130)]) -> Response:
    """One published metadata file, e.g. `2.digits.json`; without a version, the one in force."""
    data = hub.repository.file(file) if _FILE.match(file) else None
    if data is None:
        raise Refused(404, "not-found", f"the hub publishes no trust file {file[:130]!r}")
    return Response(data, media_type="application/json")


@router.post("/releases", status_code=201)
async def publish(request: Request, response: Response, hub: Hub, who: Actor) -> dict[str, Any]:
    """Publish a signed bundle: its bytes. 200 when it was published already."""
    async with received(request, hub.directory, "bundle", MAX_BUNDLE_BYTES) as path:
        published = await run_in_threadpool(_publish, hub, path, who)
    if not published.created:
        response.status_code = 200
    return shapes.release(published.release) | {"created": published.created}


@router.get("/releases")
def releases(
    hub: Hub, who: Actor, family: Name = "", after: AfterName = "", limit: Limit = 200
) -> dict[str, Any]:
    """Releases, oldest first."""
    wanted = select(Release).order_by(Release.published_at_ms, Release.target)
    if family:
        wanted = wanted.where(Release.family == family)
    with hub.storage.reading() as session:
        if after:
            last = find_release(session, after)
            wanted = wanted.where(
                (Release.published_at_ms > last.published_at_ms)
                | ((Release.published_at_ms == last.published_at_ms) & (Release.target > after))
            )
        found = list(session.scalars(wanted.limit(limit + 1)))
        return page(found, limit, lambda row: row.target, shapes.release)


@router.get("/releases/{family}/{version}")
def one_release(hub: Hub, who: Actor, family: Word, version: Word) -> dict[str, Any]:
    """One release."""
    with hub.storage.reading() as session:
        return shapes.release(find_release(session, f"{family}/{version}"))


@router.get("/releases/{family}/{version}/report")
def report(hub: Hub, who: Actor, family: Word, version: Word) -> Response:
    """The page on what was measured when the release was made."""
    page = release_report(hub, f"{family}/{version}")
    return Response(page, headers=_PAGE_HEADERS, media_type="text/html; charset=utf-8")


def _import(hub: HubServices, data: bytes, who: str) -> dict[str, Any]:
    before = hub.repository.versions()
    with audited(hub, who, "trust.import", "trust.json") as detail:
        versions = hub.repository.import_trust(data)
        hub.repository.sign_online(hub.clock())
        detail["versions"] = versions
    hub.link.wake()
    changed = sorted(role for role, n in versions.items() if before.get(role) != n)
    files = sorted(hub.repository.files())
    return {"files": files, "changed": changed, "versions": hub.repository.versions()}


def _publish(hub: HubServices, path: Any, who: str) -> Published:
    with audited(hub, who, "release.publish", "bundle") as detail:
        published = publish_bundle(hub, path, who)
        release = published.release
        detail.update(target=release.target, digest=release.digest, created=published.created)
        return published
