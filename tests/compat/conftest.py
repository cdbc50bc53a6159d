"""Leave the files of a user's project to the test that runs them."""

collect_ignore = ["users_project"]
