"""The peer of `cargo xtask bench serve`: ONNX Runtime in FastAPI, as fast as FastAPI goes.

A raw request and a raw response around orjson (no validation by pydantic), `async def` (no thread
pool), uvloop and httptools, no access log, one process, one thread in ONNX Runtime. Its argument is
the model; it prints the port that it took on 127.0.0.1.
"""

import socket
import sys

import numpy as np
import onnxruntime
import orjson
import uvicorn
import uvloop
from fastapi import FastAPI, Request, Response

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
input_name = session.get_inputs()[0].name
label_name, probability_name = (output.name for output in session.get_outputs())

app = FastAPI(openapi_url=None)


@app.post("/predict")
async def predict(request: Request) -> Response:
    rows = np.asarray(orjson.loads(await request.body())["rows"], dtype=np.float32)
    labels, probabilities = session.run(None, {input_name: rows})
    answer = {
        "rows": [
            {label_name: label, probability_name: row}
            for label, row in zip(labels.tolist(), probabilities.tolist(), strict=True)
        ]
    }
    return Response(orjson.dumps(answer), media_type="application/json")


async def main():
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(
        app, loop="uvloop", http="httptools", access_log=False, log_level="warning", lifespan="off"
    )
    await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    uvloop.run(main())
