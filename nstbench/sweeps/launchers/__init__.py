"""Ways to run the jobs of a sweep: in a batch, in worker processes, on Slurm."""
