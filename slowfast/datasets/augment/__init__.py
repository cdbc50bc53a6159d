"""What training does to pixels beside scaling, cropping and mirroring."""
