"""What runs inside of the worker process: one module a library, imported there and nowhere else."""
