"""In the worker: a network of torch to float TFLite by litert-torch.

litert-torch takes exported programs; torch itself makes one out of TorchScript. Both steps guess
where code branches, so the answers are compared with those of the network that was given.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from converter.frontends.jobs.torch_answers import require_close, words
from converter.frontends.refusal import Refusal, need

_REMEDY = (
    "give --onnx2tf-python too, whose way leads through ONNX, or leave --with-tflite out"
    " (docs/models.md)"
)


def to_tflite(
    torch: Any, model: Any, examples: Any, names: list[str], dynamic: bool, target: Path
) -> None:
    """Write `target`, its inputs named like the ONNX model's; a batch that is `dynamic` becomes 1.

    `examples`: one tensor an input, samples first; all of them are compared. Refuses with
    `ExtraMissing` or `FrontendFailed`.
    """
    litert_torch = need("litert-torch", "litert_torch")
    batches = len(examples[0]) if dynamic else 1
    samples = [tuple(torch.tensor_split(e, batches)[i] for e in examples) for i in range(batches)]
    traceable = _exported(model, samples[0]) if _is_script(torch, model) else model

    class Named(torch.nn.Module):  # type: ignore[misc]  # torch is not there for the type checker
        def forward(self, **inputs: Any) -> Any:
            return traceable(*(inputs[name] for name in names))

    try:
        made = litert_torch.convert(
            Named().eval(), sample_args=(), sample_kwargs=_named(names, samples[0])
        )
        answers = [made(**_named(names, sample)) for sample in samples]
    except Exception as error:  # a compiler's any error means that it has no form for this network
        raise _refusal("litert-torch makes no TFLite of it", error) from error
    with torch.no_grad():
        for sample, answer in zip(samples, answers, strict=True):
            require_close(torch, answer, model(*sample), "TFLite")
    made.export(str(target))


def _is_script(torch: Any, model: Any) -> bool:
    return isinstance(model, torch.jit.ScriptModule)


def _exported(script: Any, sample: tuple[Any, ...]) -> Any:
    """The module of the exported program that torch makes out of TorchScript."""
    # Private, and the only way there is: the extra pins the very torch that it was tried with.
    from torch._export.converter import TS2EPConverter

    try:
        return TS2EPConverter(script, sample, None).convert().module()
    except Exception as error:  # whatever its interpreter of TorchScript meets
        raise _refusal("torch makes no exported program of this TorchScript", error) from error


def _named(names: list[str], sample: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip(names, sample, strict=True))


def _refusal(fact: str, error: Exception) -> Refusal:
    return Refusal("FrontendFailed", f"{fact} ({words(error)}); {_REMEDY}")
