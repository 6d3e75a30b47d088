"""Two real releases that share most of their chunks, and ways to stage them."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.store.layout import Layout, variant_files
from agent.store.staging import Plan, Staging, plan_files
from tests.agent.deployment.releases import Released, make_release


@pytest.fixture(scope="session")
def v1(tmp_path_factory: pytest.TempPathFactory) -> Released:
    return make_release(tmp_path_factory.mktemp("v1"), "1")


@pytest.fixture(scope="session")
def v2(tmp_path_factory: pytest.TempPathFactory) -> Released:
    return make_release(tmp_path_factory.mktemp("v2"), "2")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    layout.store.mkdir()
    layout.staging.mkdir()
    return layout


def plan_of(released: Released) -> Plan:
    """The plan of the release's only variant."""
    refs = variant_files(released.variant)
    return plan_files((r, released.blobs[r.chunks.digest]) for r in refs if r.chunks is not None)


def stage(layout: Layout, released: Released) -> Staging:
    """Bring everything of a release into staging."""
    staging, plan = Staging(layout.staged(released.digest)), plan_of(released)
    staging.save_manifest(released.manifest_bytes)
    for ref in plan.files:
        assert ref.chunks is not None
        staging.save_chunk_list(ref, released.blobs[ref.chunks.digest])
    staging.prepare(plan)
    for digest in plan.places:
        staging.put(plan, digest, released.blobs[digest])
    staging.sync(plan)
    return staging
