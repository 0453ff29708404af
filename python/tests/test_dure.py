import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

PACKAGE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PACKAGE))

import dure  # noqa: E402


class Scalar:
    """Like a NumPy scalar: a number only by __float__."""

    def __float__(self):
        return 0.25


def logged(*arguments, **named):
    with contextlib.redirect_stdout(io.StringIO()) as output:
        dure.log(*arguments, **named)
    text = output.getvalue()
    assert text.startswith("##dure ") and text.endswith("\n") and text.count("\n") == 1, text
    return json.loads(text[len("##dure ") :])


def run(code, **environment):
    """Runs code in a fresh interpreter whose standard output is a pipe."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(PACKAGE), "PYTHONDONTWRITEBYTECODE": "1", **environment},
        stdout=subprocess.PIPE,
        check=True,
    ).stdout.decode()


class Log(unittest.TestCase):
    def test_writes_one_line_with_metrics_and_step(self):
        self.assertEqual(
            logged({"accuracy": 0.96, "loss": 1}, step=3),
            {"metrics": {"accuracy": 0.96, "loss": 1.0}, "step": 3},
        )

    def test_leaves_step_out_when_there_is_none(self):
        self.assertEqual(logged({"loss": 0.5}), {"metrics": {"loss": 0.5}})
        self.assertEqual(logged({"loss": 0.5}, step=0)["step"], 0)

    def test_writes_nan_and_infinities_as_strings(self):
        values = {"a": float("nan"), "b": float("inf"), "c": float("-inf")}
        self.assertEqual(logged(values)["metrics"], {"a": "NaN", "b": "Infinity", "c": "-Infinity"})

    def test_takes_whatever_is_a_number_by_its_float(self):
        self.assertEqual(logged({"a": Scalar(), "b": True})["metrics"], {"a": 0.25, "b": 1.0})

    def test_a_bad_value_is_refused_by_its_name(self):
        for value in ["0.9", None, [1.0], 1j]:
            with self.assertRaisesRegex(TypeError, "'accuracy'"):
                dure.log({"loss": 0.1, "accuracy": value})
        with self.assertRaisesRegex(ValueError, "'count'"):
            dure.log({"count": 10**400})

    def test_bad_names_and_steps_are_refused(self):
        for metrics in ["loss", None, {1: 0.5}]:
            with self.assertRaises(TypeError):
                dure.log(metrics)
        for metrics in [{}, {"": 0.5}]:
            with self.assertRaises(ValueError):
                dure.log(metrics)
        for step in [1.5, "1", float("nan")]:
            with self.assertRaisesRegex(TypeError, "step"):
                dure.log({"loss": 0.5}, step=step)

    def test_keeps_the_order_of_printed_lines_without_unbuffered_output(self):
        text = run("import dure; print('before'); dure.log({'loss': 0.5}); print('after')")
        self.assertEqual(text, 'before\n##dure {"metrics": {"loss": 0.5}}\nafter\n')

    def test_is_seen_at_once_even_if_the_program_dies(self):
        text = run("import dure, os; dure.log({'loss': 0.5}); os._exit(0)")
        self.assertEqual(text, '##dure {"metrics": {"loss": 0.5}}\n')

    def test_lines_of_several_processes_stay_whole(self):
        code = (
            "import dure, os\n"
            "children = []\n"
            "for child in range(4):\n"
            "    pid = os.fork()\n"
            "    if pid == 0:\n"
            "        for step in range(200):\n"
            "            dure.log({'child': child, 'filler' * 20: step}, step=step)\n"
            "        os._exit(0)\n"
            "    children.append(pid)\n"
            "for pid in children:\n"
            "    os.waitpid(pid, 0)\n"
        )
        lines = run(code).splitlines()
        self.assertEqual(len(lines), 800)
        for line in lines:
            self.assertIn("metrics", json.loads(line[len("##dure ") :]))


class Params(unittest.TestCase):
    def test_without_dure_they_are_the_defaults(self):
        with mock.patch.dict(os.environ):
            os.environ.pop("DURE_PARAMS", None)
            self.assertEqual(dure.params(), {})
            self.assertEqual(dure.params(defaults={"epochs": 5}), {"epochs": 5})

    def test_given_ones_go_over_the_defaults(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "params.json")
            Path(path).write_text('{"epochs": 20, "name": "é"}', encoding="utf-8")
            with mock.patch.dict(os.environ, DURE_PARAMS=path):
                defaults = {"epochs": 5, "hidden": 64}
                self.assertEqual(dure.params(defaults), {"epochs": 20, "hidden": 64, "name": "é"})
                self.assertEqual(defaults["epochs"], 5)

    def test_a_file_that_is_no_object_is_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "params.json")
            Path(path).write_text("[1]", encoding="utf-8")
            with mock.patch.dict(os.environ, DURE_PARAMS=path):
                with self.assertRaisesRegex(ValueError, "params.json"):
                    dure.params()


class OutputDir(unittest.TestCase):
    def test_is_what_dure_names_and_is_made(self):
        with tempfile.TemporaryDirectory() as folder:
            wanted = os.path.join(folder, "a", "b")
            with mock.patch.dict(os.environ, DURE_OUTPUT=wanted):
                self.assertEqual(dure.output_dir(), wanted)
            self.assertTrue(os.path.isdir(wanted))

    def test_without_dure_it_is_output_in_the_current_folder(self):
        with tempfile.TemporaryDirectory() as folder:
            code = f"import dure, os; os.chdir({folder!r}); print(dure.output_dir())"
            self.assertEqual(
                os.path.realpath(run(code).strip()),
                os.path.realpath(os.path.join(folder, "output")),
            )


if __name__ == "__main__":
    unittest.main()
