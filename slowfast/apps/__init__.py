"""Programs built on the framework: prepare, synthetic, features, predict, people, demo, export, benchmark, SLURM."""
