"""Takes a finished training run into the package: network, model card and log.

python zoo/release.py larq-sks-runs/resnet20-cifar10_n32_seed0 --limits "5 epochs of fine-tuning."
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
from dataclasses import asdict, fields
from pathlib import Path

import click
import numpy as np

import larq_sks as sks
import larq_sks_zoo as zoo
from larq_sks._files import write_atomically
from larq_sks_zoo import pretrained

LOGS = Path(__file__).parent / "results" / "logs"


def released_name(settings: dict) -> str:
    """Names the network of a run: recipe and codewords."""
    codewords = settings["num_codewords"]
    bits = "1bit" if codewords is None else f"n{codewords}"
    return f"{settings['recipe'].replace('-', '_')}_{bits}"


def repeatable(command: str) -> str:
    """Leaves out of a command where the data and the results were: that is another place for everyone."""
    words = shlex.split(command)
    if words[0] == "python":  # as `zoo/evidence/accelerator` writes it
        return command
    for option in ("--data-dir", "--output"):
        if option in words:
            at = words.index(option)
            del words[at : at + 2]
    return shlex.join(["larq-sks", *words[1:]])


def sample_accuracy(model) -> float:
    """Measures the accuracy on the 1,000 test images in the package, in percent."""
    _, (images, labels) = zoo.load_cifar10_sample()
    scores = model.predict(zoo.preprocess_input(images), batch_size=500, verbose=0)
    return round(100 * float(np.mean(scores.argmax(axis=-1) == labels)), 2)


def release(run: Path, latent: bool, started_from: str | None, limits: str) -> pretrained.Card:
    """Writes the network, its card and its log."""
    record = json.loads((run / "run.json").read_text("utf-8"))
    settings, results, machine = record["settings"], record["results"], record["machine"]
    name = released_name(settings)
    model = sks.load(run / "final.sks")
    pretrained.FOLDER.mkdir(parents=True, exist_ok=True)
    target = pretrained.FOLDER / f"{name}.sks"
    sks.save(model, target, latent=latent)
    data = target.read_bytes()
    LOGS.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(run / "log.csv", LOGS / f"{name}.csv")
    values = {
        **results,
        **pretrained.figures(model),
        "network": settings["network"],
        "dataset": settings["dataset"],
        "num_codewords": settings["num_codewords"],
        "file": target.name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "latent": latent,
        "sample_accuracy": sample_accuracy(sks.load(target)),
        "recipe": settings["recipe"],
        "command": repeatable(record["command"]),
        "environment": record["environment"],
        "seed": settings["seed"],
        "epochs": sum(stage["epochs"] for stage in settings["stages"]),
        "started_from": started_from,
        "log": f"zoo/results/logs/{name}.csv",
        "date": record["finished"][:10],
        "machine": ", ".join([machine["processor"], f"{machine['cores']} cores", *machine["gpus"]]),
        "versions": record["versions"],
        "limits": limits,
    }
    card = pretrained.Card(**{f.name: values[f.name] for f in fields(pretrained.Card)})
    write_atomically(
        pretrained.FOLDER / f"{name}.json", (json.dumps(asdict(card), indent=2) + "\n").encode()
    )
    return card


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--latent", is_flag=True, help="Keep the latent weights, for others to start from.")
@click.option("--started-from", help="File of the pretrained network that the run began with.")
@click.option("--limits", default="", help="What a user of the network must know.")
def main(run: Path, latent: bool, started_from: str | None, limits: str) -> None:
    """Takes the network of a finished RUN of `larq-sks train` into the package."""
    card = release(run, latent, started_from, limits)
    click.echo(
        f"{card.file}: {card.bytes:,} bytes, {card.accuracy:.2f} % of all test images, "
        f"{card.sample_accuracy:.1f} % of the sample"
    )


if __name__ == "__main__":
    main()
