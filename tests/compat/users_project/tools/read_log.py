"""Print the best validation and the result of the test in a log."""

import json
import sys


def read(path):
    rows = []
    with open(path) as f:
        for line in f:
            if "json_stats: " in line:
                rows.append(json.loads(line.split("json_stats: ")[1]))
    return rows


if __name__ == "__main__":
    rows = read(sys.argv[1])
    val = [row for row in rows if row.get("_type") == "val_epoch"]
    test = [row for row in rows if row.get("split") == "test_final"]
    print(len(val), val[-1]["min_top1_err"], test[-1]["top1_acc"])
