"""Float graph -> int8 graph: calibration, equalisation, candidates, mixed precision."""
