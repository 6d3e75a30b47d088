"""Where releases lie on disk: `store/{family}/{digest}/` installed, `staging/{digest}/` not yet.

Both hold model.installed's layout (`manifest.json`, `files/<path>`) and `chunks/<digest>`, the
binary chunk lists, from which later downloads learn what need not be fetched. Names come from ids
and digests only, so no path leaves the state folder. Reads and writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from contract.ids import check_id, is_digest
from contract.manifest import FileRef, Variant


@dataclass(frozen=True)
class Layout:
    """Paths below one state folder."""

    state_dir: Path

    @property
    def store(self) -> Path:
        """The installed releases of every family."""
        return self.state_dir / "store"

    @property
    def staging(self) -> Path:
        """Downloads that are not whole yet."""
        return self.state_dir / "staging"

    def installed(self, family: str, digest: str) -> Path:
        """One installed release; `digest` is the manifest's."""
        return self.store / check_id(family, "family") / _checked(digest)

    def staged(self, digest: str) -> Path:
        """One download."""
        return self.staging / _checked(digest)


def manifest_path(directory: Path) -> Path:
    """The manifest of an installed or staged release."""
    return directory / "manifest.json"


def file_path(directory: Path, ref: FileRef) -> Path:
    """One file of an installed or staged release; the manifest's decoder has checked `ref.path`."""
    return directory / "files" / ref.path


def chunk_list_path(directory: Path, ref: FileRef) -> Path:
    """The chunk list of one device file."""
    assert ref.chunks is not None, ref.path  # noqa: S101 - the manifest's decoder has checked it
    return directory / "chunks" / _checked(ref.chunks.digest)


def variant_files(variant: Variant) -> list[FileRef]:
    """What a device holds of a variant, each file once."""
    return list({r.path: r for r in (variant.model, variant.golden, variant.profile)}.values())


def _checked(digest: str) -> str:
    assert is_digest(digest), digest  # noqa: S101 - decoders have checked every digest
    return digest
