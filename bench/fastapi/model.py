"""Trains the model that both servers answer with. Arguments: train.csv, the file to write."""

import sys

import numpy as np
from skl2onnx import to_onnx
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

table = np.loadtxt(sys.argv[1], delimiter=",", skiprows=1, dtype=np.float32)
pixels, labels = table[:, :-1], table[:, -1].astype(np.int64)
network = MLPClassifier(hidden_layer_sizes=(64,), batch_size=32, random_state=1, max_iter=200)
model = make_pipeline(StandardScaler(), network).fit(pixels, labels)
# Tensors and no maps: in Python a list of dictionaries costs more than the prediction.
onnx = to_onnx(model, pixels[:1], options={"zipmap": False})
with open(sys.argv[2], "wb") as file:
    file.write(onnx.SerializeToString())
