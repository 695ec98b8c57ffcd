"""Trains networks that `export.py` wrote, with JAX alone, one run after another.

A plan is a JSON list of runs; each begins with the weights of a file or an earlier run, or anew, and has one or more
parts with a program each, under one line of the learning rate:

    {"name": "resnet20_n32", "from": "resnet20_1bit", "rate": 1e-3, "warmup": 0, "seed": 0, "keep": "signs",
     "parts": [{"job": "ResNet20_n32", "choose": "coverage", "epochs": 5}]}

A run with `until` (a part of `--seconds`) in place of epochs takes as many as there is time for: the cosine falls with
the part of the time that is over, epoch by epoch.

The log has a line an epoch: name, epoch, learning rate, loss, accuracy on the training images, accuracy on the test
images (now and then) and seconds; and one at the end: name, "end", accuracy before training, epochs, codewords moved,
accuracy, seconds.

    python zoo/evidence/accelerator/run.py zoo/evidence/accelerator/plans/resnet20.json --seconds 560
"""

from __future__ import annotations

import argparse
import csv
import json
import lzma
import os
import platform
import re
import sys
import time
import types
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax._src.lib import _jax
from jax._src.lib.mlir import ir
from jax._src.lib.mlir.dialects import func as func_dialect
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import mlir

jax.config.update("jax_enable_x64", True)  # Keras counts steps in int64
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

# As `larq_sks_zoo.images`.
MEAN, STD, SHIFT = 0.473, 0.251, 4
# The defaults of `larq_sks.selections.Permutation`.
BOOST, LOGIT_SCALE = 6.0, 10.0
NEVER_CHANGED = re.compile("/(phase|noise|temperature|logit_scale):0$")
OF_THE_OPTIMIZER = re.compile("[mv]/|iteration:0|learning_rate:0")


def library(root: Path):
    """Imports `larq_sks.starts` where there is no TensorFlow: its modules use it to reshape arrays alone."""

    class Array(np.ndarray):
        def numpy(self):
            return np.asarray(self)

    shim: Any = types.ModuleType("tensorflow")
    shim.reshape = lambda array, shape: np.reshape(np.asarray(array), shape).view(Array)
    shim.transpose = lambda array, order: np.transpose(np.asarray(array), order).view(Array)
    package = types.ModuleType("larq_sks")
    package.__path__ = [str(root / "larq_sks")]
    sys.modules["tensorflow"], sys.modules["larq_sks"] = shim, package
    import larq_sks.starts

    del sys.modules["tensorflow"]  # others look whether it is there
    return larq_sks.starts, larq_sks.codebook


STARTS, CODEBOOK = library(Path(__file__).absolute().parents[3])


def program(path: Path, fixed: dict[int, np.ndarray]):
    """Makes a function of JAX out of a program of XLA, and gives it those arguments that never change.

    They are constants for the compiler, which so leaves out the branches of a selection that are never taken: at each
    branch the machine waits for the GPU.
    """
    stablehlo = _jax.mlir.hlo_to_stablehlo(lzma.decompress(path.read_bytes()))
    with mlir.make_ir_context():
        text = str(ir.Module.parse(stablehlo))
    # What older versions of XLA call a copy has no name in the dialect that newer ones compile.
    text = re.sub(
        r"mhlo\.copy (%\w+) : (tensor<[^>]*>)", r"stablehlo.convert \1 : (\2) -> \2", text
    )
    text = re.sub(r'"mhlo\.copy"\((%\w+)\) : ', r"stablehlo.convert \1 : ", text)
    # Near ties between codewords are decided in float32, which a GPU multiplies matrices in only if told so.
    text = re.sub(
        r"(stablehlo\.dot.*precision = )\[DEFAULT, DEFAULT\]", r"\1[HIGHEST, HIGHEST]", text
    )
    # The results of the main function, such as tensor<3x3x16x16xf32>.
    signature = re.findall(r"@main\(.*?\) -> (.*)\{$", text, re.MULTILINE)[0]
    written = re.findall(r"tensor<[^>]*>", signature)
    names = {"f32": np.float32, "i32": np.int32, "i64": np.int64, "bf16": jnp.bfloat16}
    shapes = []
    for kind in written:
        *sizes, element = kind[len("tensor<") : -1].split("x")
        shapes.append(ShapedArray(tuple(map(int, sizes)), np.dtype(names[element])))
    primitive = Primitive(path.name.split(".")[0])
    primitive.multiple_results = True
    primitive.def_abstract_eval(lambda *given: shapes)

    def lower(context, *given):
        module = ir.Module.parse(text)
        name = mlir.merge_mlir_modules(
            context.module_context.module,
            primitive.name,
            module,
            dst_symtab=context.module_context.symbol_table,
        )
        results = [ir.Type.parse(kind) for kind in written]
        rest = iter(given)
        operands = [
            mlir.ir_constant(fixed[i]) if i in fixed else next(rest)
            for i in range(len(fixed) + len(given))
        ]
        return list(func_dialect.CallOp(results, ir.FlatSymbolRefAttr.get(name), operands).results)

    mlir.register_lowering(primitive, lower)
    return primitive.bind


class Job:
    """A network with its programs, as functions on all of its variables."""

    def __init__(self, folder: Path):
        self.manifest = json.loads((folder / "manifest.json").read_text())
        self.names = [name for name, _, _ in self.manifest["variables"]]
        self.shapes = {name: tuple(shape) for name, shape, _ in self.manifest["variables"]}
        self.start = dict(np.load(folder / "start.npz"))
        self.fixed = {name: self._fixed(name) for name in ("step", "test")}
        self.programs = {
            name: program(folder / f"{name}.hlo.xz", fixed) for name, fixed in self.fixed.items()
        }
        self.rate = self.names.index("learning_rate:0")
        self.epoch = jax.jit(self._epoch, donate_argnums=0)
        self.test = jax.jit(self._test)

    def first(self, seed: int) -> dict[str, np.ndarray]:
        """Draws the first weights."""
        values = {}
        for number, name in enumerate(self.names):
            limit = self.manifest["drawn"].get(str(number))
            if limit is None:
                values[name] = self.start[f"v{number}"]
            else:
                draw = np.random.default_rng([seed, *name.encode()]).uniform
                values[name] = draw(-limit, limit, self.shapes[name]).astype(np.float32)
        return values

    def binary_kernels(self) -> list[str]:
        """Lists the binary kernels: those of 3×3 but for the first convolution."""
        first = ("stem/", "conv1/")
        kernels = [
            name
            for name in self.names
            if name.endswith("/kernel:0") and self.shapes[name][:2] == (3, 3)
        ]
        return [name for name in kernels if not name.startswith((*first, "m/", "v/"))]

    def kernels(self) -> dict[str, str]:
        """Pairs the variables of selections with those of their kernels."""
        return {
            name: f"{name.split('/')[0]}/kernel:0"
            for name in self.names
            if name.endswith("/indices:0")
        }

    def selecting(self, selected: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the variables of selections that begin with codewords, as `Permutation.start_from` does."""
        values = {}
        for indices, kernel in self.kernels().items():
            values[indices] = selected[kernel]
            logits = indices.replace("/indices:0", "/logits:0")
            if logits in self.shapes:
                values[logits] = np.zeros(self.shapes[logits], np.float32)
                at = selected[kernel], np.arange(len(selected[kernel]))
                values[logits][at] = BOOST / LOGIT_SCALE
        return values

    def state(self, values: dict[str, np.ndarray]) -> list:
        """Puts values into the order of the variables."""
        return [jnp.asarray(values[name], kind) for name, _, kind in self.manifest["variables"]]

    def _fixed(self, name: str) -> dict[int, np.ndarray]:
        """Returns a program's arguments that never change, by their places: images and labels are the first two."""
        found = {}
        for place, (kind, i) in enumerate(self.manifest["arguments"][name], start=2):
            if kind == "constant":
                found[place] = self.start[f"c{i}"]
            elif NEVER_CHANGED.search(self.names[i]):
                found[place] = self.start[f"v{i}"]
        return found

    def _arguments(self, name, state):
        return [
            state[i]
            for place, (_, i) in enumerate(self.manifest["arguments"][name], start=2)
            if place not in self.fixed[name]
        ]

    def _epoch(self, state, seed, images, labels, rates):
        size = self.manifest["batch"]
        key = jax.random.wrap_key_data(seed)
        order = jax.random.permutation(jax.random.fold_in(key, 0), len(labels))
        order = order[: len(rates) * size].reshape(len(rates), size)
        written = [
            i
            for kind, i in self.manifest["arguments"]["step"]
            if kind == "variable" and self.manifest["written"][i]
        ]

        def step(state, given):
            number, rate, chosen = given
            state = list(state)
            state[self.rate] = rate
            batch = augmented(jax.random.fold_in(key, number + 1), images[chosen])
            loss, hits, *new = self.programs["step"](
                batch, labels[chosen], *self._arguments("step", state)
            )
            if len(new) != len(written):
                raise SystemExit(f"{len(new)} results for {len(written)} variables")
            for i, value in zip(written, new, strict=True):
                state[i] = value
            return state, (loss, hits)

        state, (loss, hits) = jax.lax.scan(step, state, (jnp.arange(len(rates)), rates, order))
        return state, loss.mean(), hits.sum() / order.size

    def _test(self, state, images, labels):
        size = self.manifest["test_batch"]
        parts = (
            preprocessed(images).reshape(-1, size, *images.shape[1:]),
            labels.reshape(-1, size),
        )
        hits = jax.lax.map(
            lambda part: self.programs["test"](*part, *self._arguments("test", state))[0], parts
        )
        return hits.sum() / len(labels)


def preprocessed(images):
    """Scales pixels."""
    return (images.astype(jnp.float32) / 255.0 - MEAN) / STD


def augmented(key, images):
    """Mirrors and shifts images that have a border already."""
    count, size = len(images), images.shape[1] - 2 * SHIFT
    mirror, corner = jax.random.split(key)
    images = jnp.where(
        jax.random.bernoulli(mirror, 0.5, (count, 1, 1, 1)), images[:, :, ::-1], images
    )
    corners = jax.random.randint(corner, (count, 2), 0, 2 * SHIFT + 1)
    cut = jax.vmap(
        lambda image, at: jax.lax.dynamic_slice(image, (at[0], at[1], 0), (size, size, 3))
    )
    return preprocessed(cut(images, corners))


def choose(rule: str, kernel: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Chooses the codewords of a kernel."""
    if rule == "random":
        return np.random.default_rng(seed).permutation(512)[:count]
    return STARTS.STARTS[rule](kernel, count)


def quantised(kernel: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Replaces each block of a kernel by its nearest codeword."""
    words = CODEBOOK.patterns(9)[indices]
    blocks = kernel.reshape(9, -1)
    return words[(words @ blocks).argmax(axis=0)].T.reshape(kernel.shape)


class Line:
    """The learning rate of a run: a warm-up, then a cosine over its epochs, or over the time that it has."""

    def __init__(self, rate: float, warmup: int, epochs: int | None, until: float):
        self.rate, self.warmup, self.epochs, self.until = rate, warmup, epochs, until
        self.done, self.progress, self.took = 0, 0.0, 0.0

    def next(self, steps: int, now: float) -> np.ndarray | None:
        """Returns the rates of the next epoch, or `None` where there is no time for it."""
        if self.epochs:
            part = 1 / (self.epochs - self.warmup)
        elif self.done < 2:  # the first compiles: how long one takes is known after two
            part = 1e-3
        elif self.until - now < 0.5 * self.took:
            return None
        else:
            part = (1 - self.progress) / max(1, round((self.until - now) / self.took))
        ahead = np.arange(steps) / steps
        if self.done < self.warmup:
            return self.rate * (self.done + ahead) / self.warmup
        line = np.minimum(self.progress + part * ahead, 1.0)
        self.progress += part
        return self.rate * 0.5 * (1 + np.cos(np.pi * line))

    def trained(self, seconds: float) -> None:
        """Counts an epoch."""
        self.done, self.took = self.done + 1, seconds


class Plan:
    """Runs, one after another, and what is left of each."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.began = time.time()
        data = np.load(arguments.data)
        border = ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0))
        grey = round(255 * MEAN)
        self.images = jnp.asarray(np.pad(data["x_train"], border, constant_values=grey))
        self.labels = jnp.asarray(data["y_train"].astype(np.int32))
        self.test = jnp.asarray(data["x_test"]), jnp.asarray(data["y_test"].astype(np.int32))
        self.runs = json.loads(arguments.plan.read_text())
        names = dict.fromkeys(part["job"] for run in self.runs for part in run["parts"])
        self.jobs = {name: Job(arguments.jobs / name) for name in names}
        self.finished: dict[str, dict[str, np.ndarray]] = {}
        self.folder = arguments.output / arguments.plan.stem
        self.folder.mkdir(parents=True, exist_ok=True)
        self.record = self.folder / f"{arguments.plan.stem}.csv"
        self.record.write_text("")

    def elapsed(self) -> float:
        """Returns the seconds since the plan began."""
        return time.time() - self.began

    def weights(self, origin: str) -> dict[str, np.ndarray]:
        """Returns the weights of an earlier run, or of a file among the jobs."""
        if origin in self.finished:
            return self.finished[origin]
        return dict(np.load(self.arguments.jobs / f"{origin}.npz"))

    def run(self, run: dict) -> None:
        """Trains one network; if time is over, a run of so many epochs leaves nothing but its log."""
        began, before = self.elapsed(), ""
        values: dict[str, np.ndarray] = {}
        until = run.get("until", 0) * self.arguments.seconds
        epochs = None if until else sum(part["epochs"] for part in run["parts"])
        line = Line(run["rate"], run["warmup"], epochs, until)
        first: dict[str, np.ndarray] = {}
        selected: dict[str, np.ndarray] = {}
        for part in run["parts"]:
            job = self.jobs[part["job"]]
            values = job.first(run["seed"]) | values
            if run.get("from") and line.done == 0:
                given = self.weights(run["from"])
                if missing := set(job.kernels().values()) - set(given):
                    raise SystemExit(f"{run['name']}: {run['from']} has no {sorted(missing)}")
                values |= {name: value for name, value in given.items() if name in values}
            if part.get("choose"):
                selected = {
                    kernel: choose(
                        part["choose"], values[kernel], len(values[indices]), run["seed"]
                    )
                    for indices, kernel in job.kernels().items()
                }
            first = first or dict(selected)
            values |= job.selecting(selected)
            state = job.state(values)
            if run.get("from") and line.done == 0:
                before = f"{self.accuracy(job, state):.2f}"
            state, finished = self.train(run, part, job, state, line)
            if not finished:
                return
            values = dict(zip(job.names, map(np.asarray, state), strict=True))
            selected |= {kernel: values[indices] for indices, kernel in job.kernels().items()}
        moved = sum(len(np.setdiff1d(selected[kernel], first[kernel])) for kernel in first)
        after = f"{self.accuracy(job, state):.2f}"
        self.write(
            run["name"], "end", before, line.done, moved, after, f"{self.elapsed() - began:.1f}"
        )
        self.finished[run["name"]] = {
            name: value for name, value in values.items() if not OF_THE_OPTIMIZER.match(name)
        }
        if run.get("keep"):
            self.keep(run, job, self.finished[run["name"]])

    def train(self, run: dict, part: dict, job: Job, state: list, line: Line) -> tuple[list, bool]:
        """Trains for a part of a run; returns the variables, and whether there was time for all of it."""
        steps = len(self.labels) // job.manifest["batch"]
        last = line.done + part.get("epochs", 10**6)
        while line.done < last:
            began = time.time()
            rates = line.next(steps, self.elapsed())
            if rates is None:
                break
            seed = np.array([run["seed"], line.done], np.uint32)
            state, loss, hits = job.epoch(
                state, seed, self.images, self.labels, jnp.asarray(rates, jnp.float32)
            )
            if not np.isfinite(float(loss)):
                raise SystemExit(f"{run['name']}: the loss is not finite")
            line.trained(time.time() - began)
            late = self.elapsed() > self.arguments.seconds
            tested = f"{self.accuracy(job, state):.2f}" if late or line.done % 10 == 0 else ""
            shown = f"{rates[-1]:.6f}", f"{float(loss):.4f}", f"{100 * float(hits):.2f}", tested
            self.write(run["name"], line.done, *shown, f"{line.took:.2f}")
            if late:
                return state, line.epochs in (None, line.done)
        return state, True

    def accuracy(self, job: Job, state: list) -> float:
        """Measures the accuracy on the test images in percent."""
        return 100 * float(job.test(state, *self.test))

    def keep(self, run: dict, job: Job, model: dict[str, np.ndarray]) -> None:
        """Writes the weights; those of binary kernels as signs, float16 or parts of 127 of the largest."""
        chosen = {kernel: indices for indices, kernel in job.kernels().items()}
        written = dict(model)
        for name in job.binary_kernels():
            value = model[name]
            if run["keep"] == "signs":
                if name in chosen:
                    value = quantised(value, model[chosen[name]])
                written[name] = np.where(value >= 0, 1, -1).astype(np.int8)
            elif run["keep"] == "float16":
                written[name] = rounded(value, np.float16, 6e-8)
            else:
                written[name] = rounded(value / np.abs(value).max() * 127, np.int8, 1)
        np.savez_compressed(self.folder / f"{run['name']}.npz", **written)

    def write(self, *line) -> None:
        """Adds a line to the log."""
        with self.record.open("a", newline="") as file:
            csv.writer(file).writerow(line)
        print(*line, flush=True)


def rounded(values: np.ndarray, kind, least: float) -> np.ndarray:
    """Rounds to a type, but not to 0: no sign is lost."""
    found = np.rint(values).astype(kind) if np.issubdtype(kind, np.integer) else values.astype(kind)
    return np.where(found == 0, np.where(values >= 0, kind(least), kind(-least)), found)


def main() -> None:
    """Carries out a plan."""
    parser = argparse.ArgumentParser()
    parser.add_argument("plan", type=Path)
    parser.add_argument("--jobs", type=Path, default=Path("jobs"))
    parser.add_argument("--data", type=Path, default=Path("cifar10.npz"))
    parser.add_argument("--output", type=Path, default=Path("runs"))
    parser.add_argument("--seconds", type=float, required=True)
    plan = Plan(parser.parse_args())
    made = {
        "command": f"python zoo/evidence/accelerator/run.py {plan.arguments.plan} --seconds {plan.arguments.seconds:g}",
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "gpus": [jax.devices()[0].device_kind],
        },
        "versions": {
            "python": platform.python_version(),
            "jax": jax.__version__,
            "numpy": np.__version__,
        },
        "environment": {
            name: value for name, value in sorted(os.environ.items()) if name.startswith("XLA_")
        },
    }
    (plan.folder / f"{plan.arguments.plan.stem}.json").write_text(json.dumps(made, indent=2) + "\n")
    for run in plan.runs:
        if plan.elapsed() > plan.arguments.seconds:
            break
        plan.run(run)
    print(f"{plan.elapsed():.0f} s", flush=True)


if __name__ == "__main__":
    main()
