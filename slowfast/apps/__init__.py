"""Programs built on the framework: prepare, synthetic, features, export, benchmark, SLURM jobs, zoo."""
