"""Speed, memory and scaling, as commands anyone can run: ``python -m benchmarks.overhead``."""
