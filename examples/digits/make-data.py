"""Makes data/train.csv and held-out.csv from the digits that scikit-learn carries.

Both files are committed; this script is here so that anybody can see where they come from and make
them again, byte for byte: `python make-data.py` with scikit-learn installed.
"""

import csv
from pathlib import Path

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

HELD_OUT = 360
HERE = Path(__file__).resolve().parent


def write(path, pixels, labels):
    path.parent.mkdir(exist_ok=True)
    with open(path, "w", newline="", encoding="ascii") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([f"pixel_{number}" for number in range(64)] + ["label"])
        for row, label in zip(pixels, labels):
            writer.writerow([int(value) for value in row] + [int(label)])


def main():
    digits = load_digits()
    train_x, held_x, train_y, held_y = train_test_split(
        digits.data, digits.target, test_size=HELD_OUT, random_state=7, stratify=digits.target
    )
    write(HERE / "data" / "train.csv", train_x, train_y)
    write(HERE / "held-out.csv", held_x, held_y)


if __name__ == "__main__":
    main()
