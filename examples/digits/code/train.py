"""Trains a small neural network on handwritten digits and writes it as an ONNX model.

An ordinary scikit-learn program: the lines with `dure` are all that Dure adds, and it runs without
Dure too (with python/ on PYTHONPATH and the CSV in ../data).
"""

import csv
import os
import time
from pathlib import Path

import dure
import numpy as np
from skl2onnx import to_onnx
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def read(path):
    """Returns the pixels and the labels of a CSV file with a header and the label last."""
    with open(path, newline="", encoding="ascii") as file:
        rows = csv.reader(file)
        header = next(rows)
        if header[-1] != "label":
            raise SystemExit(f"{path}: the last column is {header[-1]!r}, not 'label'")
        table = np.array([[float(value) for value in row] for row in rows], dtype=np.float32)
    return table[:, :-1], table[:, -1].astype(np.int64)


def main():
    params = dure.params(defaults={"epochs": 20, "hidden": 64})
    # Dure puts the dataset `digits` there; by hand it is the folder beside this one.
    by_hand = Path(__file__).resolve().parent.parent / "data"
    data = Path(os.environ["DURE_DATA"], "digits") if "DURE_DATA" in os.environ else by_hand
    pixels, labels = read(data / "train.csv")
    train_x, valid_x, train_y, valid_y = train_test_split(
        pixels, labels, test_size=0.2, random_state=1, stratify=labels
    )
    print(f"{len(train_y)} images to train on, {len(valid_y)} to validate with")

    scaler = StandardScaler().fit(train_x)
    network = MLPClassifier(
        hidden_layer_sizes=(int(params["hidden"]),), batch_size=32, random_state=1
    )
    started = time.monotonic()
    for epoch in range(1, int(params["epochs"]) + 1):
        network.partial_fit(scaler.transform(train_x), train_y, classes=np.arange(10))
        probabilities = network.predict_proba(scaler.transform(valid_x))
        accuracy = (probabilities.argmax(axis=1) == valid_y).mean()
        loss = log_loss(valid_y, probabilities, labels=np.arange(10))
        dure.log({"accuracy": accuracy, "loss": loss}, step=epoch)
    print(f"{epoch} epochs in {time.monotonic() - started:.1f} s, accuracy {accuracy:.3f}")

    # The exported model takes raw pixels: the scaler goes with it.
    model = to_onnx(make_pipeline(scaler, network), train_x[:1])
    path = Path(dure.output_dir()) / "model.onnx"
    path.write_bytes(model.SerializeToString())
    print(f"wrote {path.name}, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
