"""What training code may import to talk to Dure. It works without Dure too, and needs no package.

``log`` prints one line, ``##dure {json}``, to standard output; that line is the whole protocol, so
a program in any language can print it. ``params`` and ``output_dir`` read the environment that
Dure gives a run (``DURE_PARAMS``, ``DURE_OUTPUT``). Nothing here opens a connection.
"""

import json
import math
import os
import sys

__all__ = ["log", "output_dir", "params"]

PREFIX = "##dure "


def log(metrics, step=None):
    """Record metrics of the run, for example ``dure.log({"accuracy": 0.96}, step=3)``.

    Values are numbers, or anything that ``float()`` takes as one: NumPy scalars and tensors of one
    element included. JSON has no NaN and no infinities, so these are written as the strings
    ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``.

    The line is written in one piece. It is only recognised at the start of a line, so end your own
    line first if you print with ``end=""``.
    """
    if not isinstance(metrics, dict):
        raise TypeError(
            "dure.log takes a dict of metrics, such as {'loss': 0.1}, not " + type(metrics).__name__
        )
    if not metrics:
        raise ValueError("dure.log was given no metrics")
    record = {"metrics": {_name(key): _number(key, value) for key, value in metrics.items()}}
    if step is not None:
        record["step"] = _step(step)
    line = PREFIX + json.dumps(record, ensure_ascii=True, allow_nan=False) + "\n"
    _write(line)


def params(defaults=None):
    """Return the run's parameters: those of ``DURE_PARAMS``, over ``defaults``.

    Without Dure that is ``defaults``, or an empty dict.
    """
    values = dict(defaults or {})
    path = os.environ.get("DURE_PARAMS")
    if not path:
        return values
    with open(path, encoding="utf-8") as file:
        given = json.load(file)
    if not isinstance(given, dict):
        raise ValueError("DURE_PARAMS ({}) does not hold a JSON object".format(path))
    values.update(given)
    return values


def output_dir():
    """Return the folder for what the run makes: ``DURE_OUTPUT``, else ``./output``. It exists."""
    path = os.environ.get("DURE_OUTPUT") or os.path.join(os.getcwd(), "output")
    os.makedirs(path, exist_ok=True)
    return path


def _name(key):
    if not isinstance(key, str):
        raise TypeError("dure.log: a metric's name is a string, not {!r}".format(key))
    if not key:
        raise ValueError("dure.log: a metric's name is empty")
    return key


def _number(key, value):
    # Text and bytes are refused although float() would read them: "0.9" is most often a mistake.
    if isinstance(value, (str, bytes, bytearray)) or not (
        hasattr(value, "__float__") or hasattr(value, "__index__")
    ):
        raise TypeError(
            "dure.log: metric {!r} is not a number but {}".format(key, type(value).__name__)
        )
    try:
        number = float(value)
    except OverflowError:
        raise ValueError("dure.log: metric {!r} is too large for a float".format(key)) from None
    except (TypeError, ValueError) as error:
        raise TypeError("dure.log: metric {!r} is not one number: {}".format(key, error)) from None
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    return number


def _step(step):
    # A step counts, so 3.0 and numpy.int64(3) are fine and 3.5 is not.
    try:
        number = step.__index__() if hasattr(step, "__index__") else float(step)
        whole = int(number)
    except (TypeError, ValueError, OverflowError):
        whole = None
    if whole is None or whole != number or isinstance(step, (str, bytes, bytearray)):
        raise TypeError("dure.log: step is not a whole number: {!r}".format(step))
    return whole


def _write(line):
    # What print() holds back goes first, then the line in one write to the descriptor: two
    # processes that share the output, or a signal in between, cannot tear it apart.
    stream = sys.stdout
    if stream is None:
        return
    stream.flush()
    try:
        descriptor = stream.fileno()
    except (AttributeError, OSError, ValueError):
        # Standard output was replaced by an object that is no file (a notebook, a test).
        stream.write(line)
        stream.flush()
        return
    rest = line.encode("ascii")
    while rest:
        rest = rest[os.write(descriptor, rest) :]
