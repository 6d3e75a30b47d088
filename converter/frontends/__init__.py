"""Trained models of other tools, brought to float ONNX and float TFLite for the pipeline.

Every foreign library runs in a process of its own (`isolation`, `worker`, `jobs`): a segmentation
fault in one of them is an error of this program and not its end.
"""
