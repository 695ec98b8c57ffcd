"""Makes the tables of measured figures from the records of the measurements, so that they cannot go stale.

A page says where with a line such as `<!-- measured: cards -->`; the names are those of `TABLES`.
"""

from __future__ import annotations

import csv
import json
import math
import re
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
CARDS = ROOT / "zoo" / "larq_sks_zoo" / "data" / "pretrained"
CORE, FILES = (ROOT / "benchmarks" / "results" / f"{name}.json" for name in ("core", "files"))
SELECTIONS = ROOT / "zoo" / "results" / "selections.csv"
MARK = re.compile(r"<!-- measured: (\w+) -->")


def on_files(files: Files, config) -> Files:
    """Fills in the tables of all pages."""
    for page in [file for file in files if file.src_uri.endswith(".md")]:
        text = page.content_string
        if MARK.search(text):
            files.remove(page)
            files.append(File.generated(config, page.src_uri, content=filled(text, page.src_uri)))
    return files


def filled(text: str, name: str) -> str:
    """Puts tables in the place of a page's marks.

    Arguments:
        text: The page.
        name: Its name, for an error.

    Returns:
        The page with tables.

    Raises:
        PluginError: If a mark names no table.
    """

    def table(mark: re.Match) -> str:
        if mark[1] not in TABLES:
            raise PluginError(
                f"`measured` must name one of {sorted(TABLES)}. Received: '{mark[1]}' in {name}."
            )
        return TABLES[mark[1]]()

    return MARK.sub(table, text)


def cards() -> list[dict]:
    """Reads the model cards, the networks with the most codewords first."""
    found = [json.loads(path.read_text("utf-8")) for path in CARDS.glob("*.json")]
    return sorted(found, key=lambda card: (card["network"], -_codewords(card)))


def _codewords(card: dict) -> int:
    return card["num_codewords"] or 512


def _form(card: dict) -> str:
    return "1 bit" if card["num_codewords"] is None else f"n = {card['num_codewords']}"


def _cards() -> str:
    """The pretrained networks at a glance."""
    rows = [
        (
            f"`{card['network']}`",
            _form(card),
            f"{card['accuracy']:.2f} %",
            f"{card['bits_a_weight']:.2f}",
            f"{card['bytes']:,}" + (" with latent weights" if card["latent"] else ""),
            f"{card['binary_operations'] / 1e6:.1f} M",
            f"{card['float_operations'] / 1e6:.2f} M",
        )
        for card in cards()
    ]
    heads = "network, codewords, accuracy, bit a weight, bytes, bit operations, float MACs"
    return _table(heads.split(", "), rows)


def _model_cards() -> str:
    """What each pretrained network learned, and how."""
    parts = []
    for card in cards():
        source = card["started_from"] or "random weights"
        versions = ", ".join(f"{name} {number}" for name, number in card["versions"].items())
        settings = "".join(f"; `{name}={value}`" for name, value in card["environment"].items())
        lines = [
            f"**{card['accuracy']:.2f} %** of {card['test_images']:,} test images ({card['dataset']}); "
            f"{card['sample_accuracy']:.1f} % of the 1,000 in the package. {card['limits']}",
            f"`{card['command']}`, {card['epochs']} epochs from {source}, seed {card['seed']}; "
            f"[log](../{card['log']}), {card['date']}, {card['machine']}, {versions}{settings}",
            f"{card['parameters']:,} weights in all. File `{card['file']}`, {card['bytes']:,} bytes, sha256 "
            f"`{card['sha256']}`",
        ]
        parts.append(f'??? abstract "{card["network"]}, {card["dataset"]}, {_form(card)}"')
        parts += [f"    {line}" for line in lines]
    return "\n\n".join(parts)


def _targets() -> str:
    """The targets of the design beside what was measured."""
    core, files = (json.loads(path.read_text("utf-8")) for path in (CORE, FILES))

    def steps(network: str, kernels: str) -> float:
        times = core[f"step, {network}"]
        ratios = [a / b for a, b in zip(times[kernels], times["sign"], strict=True)]
        return statistics.median(ratios)

    def memory(network: str) -> float:
        return core[f"memory, {network}"]["learned"] / core[f"memory, {network}"]["sign"]

    step = {
        (network, kernels): steps(network, kernels)
        for network in ("ResNet-20", "wide layer")
        for kernels in ("learned", "fixed")
    }
    peaks = [memory(network) for network in ("ResNet-20", "wide layer")]
    rounding = [core[f"rounding, 512×{count}"][0] for count in (32, 128)]
    more = statistics.median(core["import"]["larq_sks"]) - statistics.median(core["import"]["larq"])
    sizes = files["sizes"].values()
    bounds = [each["sks"] / each["bound"] for each in sizes]
    packed = [each["tflite zstd"] / each["sks"] for each in sizes]
    seconds = [
        statistics.median(speed[what])
        for speed in files["speed"].values()
        for what in ("save", "load")
    ]
    loss = {
        f"{card['network']}, one seed": plain["accuracy"] - card["accuracy"]
        for plain in cards()
        for card in cards()
        if plain["network"] == card["network"]
        if (plain["num_codewords"], card["num_codewords"]) == (None, 32)
    }
    for epochs in (1, 5, 20):
        whole, coverage = _seeds("1-bit", 512, epochs), _seeds("coverage-latent", 32, epochs)
        what = f"ResNet8, {epochs} epoch{'s' * (epochs > 1)} for both, {len(coverage)} seeds"
        loss[what] = _mean(whole) - _mean(coverage)
    gain = {count: _gain(count) for count in (8, 16, 32)}
    in_core, in_files = ("core", "`make bench`"), ("files", "`make bench-files`")
    rows = [
        (
            "training step against `ste_sign`, n = 32, batch 128",
            "≤ 1.05×",
            "; ".join(
                f"{where}, {kernels} {ratio:.3f}" for (where, kernels), ratio in step.items()
            ),
            _met(max(step.values()) <= 1.05),
            in_core,
        ),
        (
            "peak memory of training against `ste_sign`",
            "≤ 1.10×",
            "ResNet-20 {:.2f}; wide layer {:.2f}".format(*peaks),
            _met(max(peaks) <= 1.10),
            in_core,
        ),
        (
            "rounding a relaxed selection, n ≤ 128, one core",
            "≤ 2 ms",
            "n = 32 {:.2f} ms; n = 128 {:.2f} ms".format(*rounding),
            _met(max(rounding) <= 2),
            in_core,
        ),
        (
            "`import larq_sks` beyond `import larq`",
            "≤ 0.3 s",
            f"{more:+.2f} s",
            _met(more <= 0.3),
            in_core,
        ),
        (
            ".sks file against the entropy of its indices plus its other weights",
            "≤ 1.02×",
            f"{min(bounds):.3f} to {max(bounds):.3f}",
            _met(max(bounds) <= 1.02),
            in_files,
        ),
        (
            "zstd -19 on the network's LCE .tflite against its .sks file",
            "> 1×",
            f"{min(packed):.2f} to {max(packed):.2f}",
            _met(min(packed) > 1),
            in_files,
        ),
        (
            "save and load 11 million binary weights, one core",
            "≤ 1 s",
            f"{min(seconds):.2f} to {max(seconds):.2f} s",
            _met(max(seconds) <= 1),
            in_files,
        ),
    ]
    written = [
        (*row, f"{command}, {_when(name)[0]}, [log](../benchmarks/results/{name}.log)")
        for *row, (name, command) in rows
    ]
    written += [
        (
            "points lost at 0.56 bit against 1 bit, CIFAR-10",
            "≤ 1 point",
            "; ".join(f"{network} {points:.2f}" for network, points in loss.items()),
            _met(max(loss.values()) <= 1),
            "[model cards](zoo.md#model-cards), [experiments](../zoo/evidence/README.md)",
        ),
        (
            "learned selection above the best fixed one, mean of 3 seeds, 5 epochs",
            "more than the standard error",
            "; ".join(f"n = {n} {mean:+.2f} ± {error:.2f}" for n, (mean, error) in gain.items()),
            _met(all(mean > error for mean, error in gain.values())),
            "[tables](../zoo/results/README.md), [experiments](../zoo/evidence/README.md)",
        ),
    ]
    return _table(("what", "target", "measured", "met", "source"), written)


def _met(reached: bool) -> str:
    return "yes" if reached else "**no**"


def _when(name: str) -> tuple[str, str]:
    """The date of a run of benchmarks/, and the machine with the versions."""
    record = {"core": CORE, "files": FILES}[name]
    date, _, machine = json.loads(record.read_text("utf-8"))["machine"].partition(", ")
    return date, machine


def _files_run() -> str:
    """Where and when the sizes of files were measured."""
    return "`make bench-files`, {}, {}".format(*_when("files"))


def _core_run() -> str:
    """Where and when speed and memory were measured."""
    return "`make bench`, {}, {}".format(*_when("core"))


def _sizes() -> str:
    """Bytes of the same networks in several formats."""
    formats = ["tflite", "tflite zstd", "tflite xz", "h5", "h5 zstd", "h5 xz"]
    rows = []
    for name, size in json.loads(FILES.read_text("utf-8"))["sizes"].items():
        sks = size["sks"]
        bound = f"{size['bound']:,} ({sks / size['bound']:.3f})"
        others = [f"{size[each]:,} ({size[each] / sks:.2f})" for each in formats]
        rows.append((name, bound, f"**{sks:,}**", *others))
    heads = ["network", "bound", ".sks", ".tflite", "zstd", "xz", "H5", "zstd", "xz"]
    return _table(heads, rows)


def _speed() -> str:
    """Time and memory of saving and loading."""
    rows = []
    for count, speed in json.loads(FILES.read_text("utf-8"))["speed"].items():
        times = [f"{statistics.median(speed[what]):.2f} s" for what in ("save", "load")]
        peaks = [speed[f"peak of {what}"] for what in ("save", "load")]
        relative = [f"{peak:.0f} MiB ({peak / speed['network']:.2f})" for peak in peaks]
        rows.append((count, *times, *relative))
    return _table(("codewords", "save", "load", "peak of save", "peak of load"), rows)


def _selections() -> str:
    """Accuracy by selection, number of codewords and budget."""
    columns = [(8, 1), (8, 5), (32, 1), (32, 5)]
    names = {
        ("random", None): "random",
        ("frequent", None): "most frequent",
        ("coverage-hamming", None): "greedy coverage, Hamming",
        ("coverage-latent", None): "greedy coverage, latent score",
        ("learned-coverage-latent", "10.0"): "the last, then learned (defaults)",
        ("learned-coverage-latent", "30.0"): "the last, then learned (`logit_scale=30`)",
        ("exchanged", None): "greedy coverage with exchanges",
    }
    rows = [
        (label, *(_accuracy(_seeds(name, count, epochs, scale)) for count, epochs in columns))
        for (name, scale), label in names.items()
    ]
    whole = [_accuracy(_seeds("1-bit", 512, epochs)) for epochs in (1, 5)]
    rows.append(("1 bit, the same fine-tuning", *whole, *whole))
    heads = [f"n = {count}, {epochs} epoch{'s' * (epochs > 1)}" for count, epochs in columns]
    return _table(("selection", *heads), rows)


def _seeds(
    selection: str, codewords: int, epochs: int, scale: str | None = None
) -> dict[int, float]:
    """Reads the accuracy that each seed reached with a selection of ResNet8."""
    with SELECTIONS.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    wanted = ("ResNet8", "fine-tuned", selection, str(codewords), str(epochs))
    return {
        int(line["seed"]): float(line["after"])
        for line in lines
        if tuple(line[name] for name in ("network", "road", "selection", "codewords", "epochs"))
        == wanted
        and (scale is None or f"logit_scale={scale}" in line["settings"])
    }


def _gain(codewords: int) -> tuple[float, float]:
    """The learned selection against the fixed one with the best mean, seed by seed."""
    fixed = [
        _seeds(name, codewords, 5)
        for name in ("random", "frequent", "coverage-hamming", "coverage-latent", "exchanged")
    ]
    best = max(fixed, key=_mean)
    learned = _seeds("learned-coverage-latent", codewords, 5, "10.0")
    gains = [learned[seed] - best[seed] for seed in sorted(learned.keys() & best.keys())]
    return statistics.mean(gains), _error(gains)


def _mean(seeds: dict[int, float]) -> float:
    return statistics.mean(seeds.values())


def _error(values: Sequence[float]) -> float:
    """The standard error of a mean."""
    return statistics.stdev(values) / math.sqrt(len(values))


def _accuracy(seeds: dict[int, float]) -> str:
    single = len(seeds) == 1
    return f"{_mean(seeds):.2f} " + ("(1)" if single else f"± {_error(list(seeds.values())):.2f}")


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


TABLES = {
    "cards": _cards,
    "core_run": _core_run,
    "files_run": _files_run,
    "model_cards": _model_cards,
    "targets": _targets,
    "sizes": _sizes,
    "speed": _speed,
    "selections": _selections,
}
