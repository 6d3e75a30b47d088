"""TensorFlow Lite: float .tflite -> int8 .tflite, by ai-edge-quantizer, run by LiteRT."""
