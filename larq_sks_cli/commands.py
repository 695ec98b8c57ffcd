"""The commands of `larq-sks`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from larq_sks_cli import pictures
from larq_sks_cli.console import Group, check_target, kib, print_json, working

# TensorFlow takes seconds to import: each command does so itself, and `--help` never does.

_PATH = click.Path(path_type=Path)
_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
_data_dir = click.option(
    "--data-dir",
    type=_PATH,
    help="Folder of TensorFlow Datasets.  [default: TFDS_DATA_DIR or ~/tensorflow_datasets]",
)
_force = click.option("--force", is_flag=True, help="Replace files that exist.")


def _read(path: Path):
    with working(f"Reading {path}"):
        from larq_sks_cli.files import read_model

        return read_model(path)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="larq-sks")
def main() -> None:
    """Sub-bit binary networks for Larq.

    A FILE is a model as .sks, .keras or .h5, or a SavedModel folder.
    """


@main.command()
@click.argument("source", metavar="FILE", type=_PATH)
@click.argument("target", metavar="OUT", type=_PATH)
@click.option(
    "--num-codewords",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="Codewords of each kernel; 512 or more: the whole codebook of 3×3 kernels.",
)
@click.option(
    "--selection",
    type=click.Choice(["permutation", "fixed"]),
    default="permutation",
    show_default=True,
    help="Whether fine-tuning may learn other codewords or leaves them fixed.",
)
@click.option(
    "--start",
    type=click.Choice(["coverage", "exchanged", "frequent", "none"]),
    default="coverage",
    show_default=True,
    help="How to choose the codewords from the trained kernel; none: the selection's own start.",
)
@click.option(
    "--layer",
    "layers",
    metavar="NAME",
    multiple=True,
    help="Only this layer; may be given several times. Otherwise all 3×3 binary kernels.",
)
@click.option(
    "--latent",
    is_flag=True,
    help="Keep latent weights in a .sks file, for fine-tuning. The other kinds always do.",
)
@_force
@_json
def sparsify(
    source, target, num_codewords, selection, start, layers, latent, force, as_json
) -> None:
    """Gives the binary kernels of FILE few codewords and writes the network to OUT.

    OUT is a .sks, .keras or .h5 file. Prints what was done to each kernel, or why it was left alone.
    """
    check_target(target, (".sks", ".keras", ".h5"), force, "OUT")
    model = _read(source)
    with working("Choosing codewords"):
        from larq_sks import convert

        try:
            model = convert.sparsify(
                model,
                num_codewords,
                selection,
                None if start == "none" else start,
                list(layers) or None,
            )
        except convert.LayerNamesError as error:
            raise click.ClickException(f"--layer {error.complaint}") from error
    with working(f"Writing {target}"):
        from larq_sks_cli.files import write_model

        write_model(model, target, latent)
    report = model.sparsify_report
    if as_json:
        print_json({"path": target, "size": target.stat().st_size, **asdict(report)})
    else:
        click.echo(f"{report}\n{target}: {kib(target)}")


@main.command()
@click.argument("source", metavar="FILE", type=_PATH)
@click.option("--tflite", type=_PATH, help="For Larq Compute Engine: a .tflite file.")
@click.option("--larq", type=_PATH, help="For machines with Larq only: a .keras or .h5 file.")
@click.option("--sks", type=_PATH, help="The smallest: a .sks file, without latent weights.")
@click.option(
    "--strict",
    is_flag=True,
    help="With --tflite: write nothing if a quantised layer would be stored in 32 bits a weight, as LCE has "
    "binary kernels for convolutions of signs only.",
)
@click.option(
    "--compact",
    is_flag=True,
    help="With --tflite: store codebooks and codeword numbers, for larq-sks-runtime; LCE cannot read it.",
)
@click.option(
    "--floats",
    type=click.Choice(["float32", "float16", "int8"]),
    help="With --sks: how to store the weights that are not binary.  [default: float32, as they are]",
)
@_force
@_json
def export(source, tflite, larq, sks, strict, compact, floats, force, as_json) -> None:
    """Writes FILE in the forms that are asked for, one or several."""
    if not (tflite or larq or sks):
        raise click.UsageError("Give one or more of --tflite, --larq and --sks.")
    if strict and not tflite:
        raise click.UsageError("--strict is for --tflite.")
    if compact and not tflite:
        raise click.UsageError("--compact is for --tflite.")
    if floats and not sks:
        raise click.UsageError("--floats is for --sks.")
    for option, path, endings in [
        ("--tflite", tflite, (".tflite",)),
        ("--larq", larq, (".keras", ".h5")),
        ("--sks", sks, (".sks",)),
    ]:
        if path:
            check_target(path, endings, force, option)
    model = _read(source)
    from larq_sks import convert, storage
    from larq_sks_cli.files import write_model

    figures: dict[str, dict] = {}
    texts = []
    if tflite:
        with working(f"Writing {tflite}"):
            on_device = convert.to_tflite(model, tflite, strict=strict, compact=compact)
        figures["tflite"] = {"path": tflite, "size": tflite.stat().st_size, **asdict(on_device)}
        texts.append(f"{tflite}: {kib(tflite)}\n{on_device}")
    if larq:
        with working(f"Writing {larq}"):
            write_model(convert.to_larq(model), larq)
        figures["larq"] = {"path": larq, "size": larq.stat().st_size}
        texts.append(f"{larq}: {kib(larq)}")
    if sks:
        with working(f"Writing {sks}"):
            saved = storage.save(model, sks, floats=floats or "float32")
        figures["sks"] = asdict(saved)
        texts.append(str(saved))
    if as_json:
        print_json(figures)
    else:
        click.echo("\n\n".join(texts))


@main.command()
@click.argument("source", metavar="FILE", type=_PATH)
@_json
def summary(source, as_json) -> None:
    """Prints what each layer of FILE costs: codewords, bits, sizes, operations."""
    model = _read(source)
    from larq_sks import models

    if as_json:
        print_json(models.summary(model, print_fn=lambda line: None).as_dict())
    else:
        models.summary(model)


@main.command()
@click.argument("source", metavar="FILE", type=_PATH)
@click.option(
    "--threads",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Threads of each interpreter.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1),
    default=30,
    show_default=True,
    help="How often each form has its turn, for 30 ms.",
)
@_json
def benchmark(source, threads, rounds, as_json) -> None:
    """Measures how long FILE takes for one image, in all interpreters that are here.

    A .tflite file is run as it is, by Larq Compute Engine and by larq-sks-runtime. Any other FILE is exported
    first: with one bit a weight, with codebooks, and as an int8 network of the same shapes.
    """
    with working(f"Preparing {source}"):
        from larq_sks import latency
        from larq_sks_cli.files import read_model, read_tflite

        if source.suffix == ".tflite":
            forms, missing = latency.of_file(read_tflite(source), threads)
        else:
            forms, missing = latency.of_model(read_model(source), threads)
    if not forms:
        raise click.ClickException(f"Nothing here can run '{source}'. {' '.join(missing)}")
    with working("Measuring", rounds) as advance:
        timings = latency.measure(forms, rounds, advance)
    if as_json:
        print_json({"timings": [each._asdict() for each in timings], "missing": missing})
        return
    width = max(len(each.name) for each in timings)
    for each in timings:
        click.echo(
            f"{each.name:{width}}  {each.median:8.3f} ms  ({each.lower:.3f} to {each.upper:.3f})  "
            f"{each.size / 1024:8.1f} KiB"
        )
    for line in missing:
        click.echo(f"Not run. {line}", err=True)


main.add_command(pictures.plot)


@main.command()
@click.argument("sources", metavar="FILE...", type=_PATH, nargs=-1, required=True)
@click.option("--plot", type=_PATH, help="Draw share of use against rank: a .png or .svg file.")
@_force
@_json
def analyze(sources, plot, force, as_json) -> None:
    """Measures how unequally the binary kernels of each FILE use the sign patterns.

    FILE may here also be a .npz of kernels: NAME.kernel_bits with NAME.kernel_shape, or weights. Prints
    histograms' figures, beside those of signs drawn by lot, and power-law fits.
    """
    if plot:
        check_target(plot, (".png", ".svg"), force, "--plot")
    with working("Importing"):
        from larq_sks import analysis
        from larq_sks_cli.analysis import analyze_file, draw

        analysis.check_powerlaw()
    analyses = []
    for source in sources:
        with working(f"Analysing {source}"):
            analyses.append(analyze_file(source))
    if plot:
        draw(analyses, plot)
    if as_json:
        parts = zip(sources, analyses, strict=True)
        print_json({"files": [{"path": path, **each.as_dict()} for path, each in parts]})
    else:
        click.echo("\n\n".join(map(str, analyses)))


@main.command()
@click.argument("source", metavar="FILE", type=_PATH)
@click.option(
    "--dataset",
    default="cifar10",
    show_default=True,
    help="Name of a data set of TensorFlow Datasets, or cifar10_sample: the images in the package.",
)
@_data_dir
@click.option("--split", default="test", show_default=True, help="Part of the data set.")
@click.option("--batch-size", type=click.IntRange(min=1), default=128, show_default=True)
@click.option("--limit", type=click.IntRange(min=1), help="Only so many images, the first.")
@_json
def evaluate(source, dataset, data_dir, split, batch_size, limit, as_json) -> None:
    """Measures the accuracy of FILE, here also a .tflite, on images with classes.

    The images are scaled as the networks of larq_sks_zoo take them (`preprocess_input`). Nothing is
    downloaded.
    """
    with working(f"Reading {source}"):
        from larq_sks_cli import evaluation

        network = evaluation.read_network(source)
        images = evaluation.read_images(dataset, data_dir, split, limit)
        evaluation.check_fit(network, images)
    with working("Classifying", images.number) as advance:
        correct = evaluation.count_correct(network, images, batch_size, advance)
    accuracy = correct / images.number
    figures = {"images": images.number, "correct": correct, "accuracy": accuracy}
    if as_json:
        print_json({"path": source, "dataset": dataset, "split": split, **figures})
    else:
        click.echo(
            f"{accuracy:.2%} of {images.number:,} images ({dataset}, {split}): {correct:,} correct."
        )


@main.command()
@_json
def zoo(as_json) -> None:
    """Lists the networks of larq_sks_zoo: those with weights, and recipes for the others."""
    with working("Reading the cards"):
        from larq_sks_cli import zoo_command
    if as_json:
        print_json(zoo_command.listing())
    else:
        zoo_command.show()


@main.command()
@click.argument("recipe", metavar="RECIPE", required=False)
@click.option("--list", "as_list", is_flag=True, help="List the recipes and stop.")
@click.option(
    "--num-codewords",
    type=click.IntRange(min=1),
    help="Codewords of each binary 3×3 kernel. Without it: 1 bit a weight.",
)
@click.option(
    "--selection",
    type=click.Choice(["permutation", "fixed"]),
    help="With --num-codewords: learn which codewords, or leave them as they are at the start.  "
    "[default: fixed; permutation with --start none]",
)
@click.option(
    "--start",
    metavar="FILE|none",
    help="With --num-codewords: the trained 1-bit network to begin with (.sks or .h5), or none for "
    "random weights.  [default: the one that comes with the package]",
)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
@_data_dir
@click.option("--epochs", type=click.IntRange(min=1), help="Of each stage, not the recipe's.")
@click.option("--output", type=_PATH, help="Folder of the run.  [default: one in larq-sks-runs/]")
@click.option("--teacher", type=_PATH, help="A network to learn from beside the labels.")
@click.option(
    "--distribute",
    type=click.Choice(["mirrored", "multi-worker"]),
    help="On all GPUs of this machine, or on the machines that TF_CONFIG names.",
)
@click.option("--mixed-precision", is_flag=True, help="float16 on a GPU, bfloat16 on a CPU.")
@_json
def train(recipe, as_list, as_json, **options) -> None:
    """Trains a network by a RECIPE, at 1 bit a weight or with few codewords.

    A run that was broken off goes on when it is called again in the same way, and comes to the same
    result. Nothing is downloaded.
    """
    if as_list == bool(recipe):
        raise click.UsageError("Give the name of a RECIPE, or --list.")
    with working("Starting"):
        from larq_sks_cli import training
    if as_list:
        listing = training.listing()
        if as_json:
            print_json({"recipes": listing})
        else:
            for entry in listing:
                click.echo(f"{entry['recipe']:28} {entry['description']}")
        return
    output, trained = training.train(recipe, **options)
    if as_json:
        print_json({"path": output, "new": trained.is_new, **trained.record})
    else:
        click.echo(training.text(output, trained))


@main.command()
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default="larq-sks-demo",
    show_default=True,
    help="Folder for the results.",
)
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Epochs of fine-tuning, of 1,500 images each.",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed."
)
def demo(output: Path, epochs: int, seed: int) -> None:
    """Makes a trained binary network smaller, from 1 bit a weight to 0.56, and exports it."""
    from larq_sks_zoo.demo import run

    run(output, epochs, seed)
