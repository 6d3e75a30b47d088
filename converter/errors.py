"""The errors of the converter, each named for the fact; its message says what to do.

One line each: the file, tensor or sample, then the remedy. An `Objection` is a finding that the
owner of the model may overrule with `--force`; every other error may not be overruled.
"""

from __future__ import annotations

from contract.manifest import GateRecord


class ConvertError(Exception):
    """The model was not converted; nothing was written."""


class InvalidRequest(ConvertError):
    """The command itself cannot be right: a bad name, a negative limit, two equal paths."""


class OutputUnwritable(ConvertError):
    """The bundle cannot be written where it was asked for."""


class MeasurementsUnreadable(ConvertError):
    """The file that is to give measured latencies holds none, or is damaged."""


class MeasurementsMismatch(ConvertError):
    """The given latencies are of other models, or were measured by another runtime."""


# The model


class ModelUnreadable(ConvertError):
    """The model file is absent, empty, too long, or not a file."""


class NotOnnx(ConvertError):
    """The file is not an ONNX model."""


class NotTflite(ConvertError):
    """The file is not a TensorFlow Lite model, or is damaged."""


class InvalidModel(ConvertError):
    """The file parses as ONNX, but the graph is not valid."""


class ExternalData(ConvertError):
    """Weights stand in other files beside the model."""


class AlreadyQuantised(ConvertError):
    """The model is an integer model already."""


class UnsupportedOpset(ConvertError):
    """The model's opset cannot be brought to the one that devices run."""


class UnsupportedOperator(ConvertError):
    """The model uses operators outside of standard ONNX."""


class UnsupportedTensor(ConvertError):
    """An input or output has a type or shape that a device cannot serve."""


class NonFiniteWeights(ConvertError):
    """A weight holds NaN or Inf."""


class NothingToQuantise(ConvertError):
    """int8 would change nothing: the model has no layer that has an integer form."""


class ModelFailed(ConvertError):
    """onnxruntime could not load or run the model."""


class ModelChanged(ConvertError):
    """The simplified float model does not answer like the one that went in."""


class QuantisationFailed(ConvertError):
    """onnxruntime's quantiser gave up."""


class FloatBoundary(ConvertError):
    """Integer inputs and outputs were asked for, and the quantiser left floats there."""


class InvalidOutput(ConvertError):
    """The model answers NaN or Inf on the samples."""


class EvidenceFailed(ConvertError):
    """Golden samples or the reference profile cannot be made, or are too large to ship."""


class NotARelease(ConvertError):
    """The model's names, ranks or counts are beyond what a manifest holds."""


# Models of other tools


class UnknownFormat(ConvertError):
    """The file is not a model in any form that can be converted."""


class SourceDamaged(ConvertError):
    """The model file is truncated or damaged."""


class PickleNotTrusted(ConvertError):
    """Reading the file would run code out of it, and nobody said that it may."""


class NoOnnxForm(ConvertError):
    """The model cannot be brought to ONNX, which the wanted variants are made of."""


class ShapeUnknown(ConvertError):
    """The model does not say what shape its input has."""


class VariantsDisagree(ConvertError):
    """Two forms of one model take or give different tensors, so one release cannot hold both."""


class VerificationFailed(ConvertError):
    """The device's own code does not run a finished variant as it was measured."""


class BeyondHalf(ConvertError):
    """A weight or an activation is too large for float16."""


class ExtraMissing(ConvertError):
    """The tool that reads this kind of model is not installed."""


class PythonTooOld(ConvertError):
    """The tool needs a newer Python than this one."""


class FrontendFailed(ConvertError):
    """The tool that reads this kind of model gave up on it."""


class FrontendCrashed(ConvertError):
    """The tool that reads this kind of model died."""


class FrontendTimedOut(ConvertError):
    """The tool that reads this kind of model did not come to an end."""


# The samples


class SamplesUnreadable(ConvertError):
    """A file of samples is absent, too long, damaged, or of no known kind."""


class SpoolFailed(ConvertError):
    """Samples that had to be unpacked found no room on the disk."""


class RecipeMissing(ConvertError):
    """Raw files were given, and nothing says how they become the model's input."""


class WrongArrays(ConvertError):
    """The arrays in a file of samples are not the model's inputs."""


class WrongShape(ConvertError):
    """An array does not have the shape of the model's input."""


class WrongType(ConvertError):
    """An array does not have the element type of the model's input."""


class NoSamples(ConvertError):
    """Too few samples to calibrate or to evaluate on."""


class NonFiniteSamples(ConvertError):
    """A sample holds NaN or Inf."""


class ConstantSamples(ConvertError):
    """All samples are one and the same value."""


class BadLabels(ConvertError):
    """The labels do not fit the samples or the model."""


class SamplesOverlap(ConvertError):
    """The same sample is in the calibration and in the evaluation data."""


# What --force overrules


class Objection(ConvertError):
    """The model could be shipped, but should not be; `--force` overrules and is recorded."""


class TooFewSamples(Objection):
    """So few samples that neither a range nor a share of right answers means anything."""


class CalibrationOutlier(Objection):
    """One sample would stretch the int8 range so far that the others lose their resolution."""


class CalibrationMismatch(Objection):
    """Calibration and evaluation data do not lie in the same range."""


class UselessBaseline(Objection):
    """The float model itself is no better than a constant answer on the evaluation data."""


class OneAnswer(Objection):
    """The evaluation data are of one class: by their labels, or by the float model's answers."""


class GateFailed(Objection):
    """The int8 model lost more than was allowed. `record` holds the figures."""

    def __init__(self, message: str, record: GateRecord) -> None:
        super().__init__(message)
        self.record = record


class TooSlow(Objection):
    """int8 takes longer beside float32 than was allowed."""


class BundleUnreadable(ConvertError):
    """A file is not a bundle, or is damaged."""
