"""Models of other tools on their way into the pipeline."""
