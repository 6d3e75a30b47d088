"""In the worker: whether a converted network answers like torch's own, and torch's own words."""

from __future__ import annotations

from typing import Any

from converter.frontends.refusal import Refusal

TOLERANCE = 1e-3
"""Of the largest value of each output."""
_MAX_WORDS = 200


def require_close(torch: Any, ours: Any, theirs: Any, what: str) -> None:
    """Refuse (`FrontendFailed`) a `what` model whose answers `ours` are not torch's, `theirs`."""
    answers = ours if isinstance(ours, (list, tuple)) else [ours]
    wanted = [theirs] if isinstance(theirs, torch.Tensor) else list(theirs)
    for one, other in zip(answers, wanted, strict=True):
        reference = other.double()
        difference = float((torch.as_tensor(one).double() - reference).abs().max())
        if not difference <= TOLERANCE * max(float(reference.abs().max()), 1e-6):
            raise Refusal(
                "FrontendFailed",
                f"the {what} model answers otherwise, by {difference:.3g}; export a network"
                " without branches that depend on its input",
            )


def words(error: BaseException) -> str:
    """What the error says, on one line and not endless."""
    return " ".join(str(error).split())[:_MAX_WORDS] or type(error).__name__
