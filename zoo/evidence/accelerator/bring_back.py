"""Turns the networks that `run.py` trained into folders as `larq-sks train` leaves them, for `zoo/release.py`.

Builds each network with Keras, gives it the weights, measures it on all test images, and compares with what the run
measured itself.

    python zoo/evidence/accelerator/bring_back.py zoo/evidence/accelerator/plans/resnet18.json runs/resnet18 \
        --data-dir ~/tensorflow_datasets
"""

from __future__ import annotations

import csv
import datetime
import json
from pathlib import Path

import click
import numpy as np
import tensorflow as tf

import larq_sks as sks
import larq_sks_zoo as zoo
from larq_sks_zoo.training import datasets, recipes, results

RECIPES = {recipe.network: recipe.name for recipe in recipes.RECIPES if recipe.dataset == "cifar10"}


def network_of(path: Path, name: str, codewords: int | None) -> tf.keras.Model:
    """Builds a network with the weights of a file."""
    tf.keras.backend.clear_session()  # names of variables count the layers before
    selection = sks.selections.Fixed(seed=0)
    model = getattr(zoo, name)(num_codewords=codewords, selection=selection)
    values = np.load(path)
    variables = {raw.name: raw for raw in (getattr(v, "latent_variable", v) for v in model.weights)}
    if set(values) != set(variables):
        raise ValueError(
            f"'{path}' must hold the variables of {name}. Received others: {sorted(set(values) ^ set(variables))}."
        )
    for key, variable in variables.items():
        value = values[key]
        # Latent weights of 8 bits are parts of the largest one; signs alone are latent weights of that size.
        if value.dtype == np.int8:
            value = value / np.abs(value).max()
        variable.assign(tf.cast(value, variable.dtype))
    return model


def epochs_of(log: Path, name: str) -> list[list[str]]:
    """Reads the epochs of a run, and last what it measured at its end."""
    with log.open(newline="") as file:
        return [line for line in csv.reader(file) if line[0] == name]


@click.command()
@click.argument("plan", type=click.Path(exists=True, path_type=Path))
@click.argument("runs", type=click.Path(exists=True, path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), default="larq-sks-runs")
@click.option("--data-dir")
def main(plan, runs, output, data_dir) -> None:
    """Measures the networks of a PLAN that lie in RUNS."""
    data = datasets.read("cifar10", data_dir)
    for run in json.loads(plan.read_text()):
        if "keep" not in run:
            continue
        began = datetime.datetime.now(datetime.timezone.utc)
        name, kind = run["parts"][-1]["job"].split("_")
        codewords = None if kind == "1bit" else int(kind[1:])
        model = network_of(runs / f"{run['name']}.npz", name, codewords)
        *epochs, end = epochs_of(runs / f"{plan.stem}.csv", run["name"])
        folder = output / run["name"]
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "log.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(
                ["epoch", "learning_rate", "loss", "accuracy", "val_accuracy", "seconds"]
            )
            writer.writerows(epoch[1:] for epoch in epochs)
        made = json.loads((runs / f"{plan.stem}.json").read_text())
        record = {
            "settings": {
                "recipe": RECIPES[name],
                "network": name,
                "dataset": "cifar10",
                "num_codewords": codewords,
                "seed": run["seed"],
                "stages": [{"epochs": len(epochs)}],
            },
            **(around := results.surroundings(began)),
            "command": made["command"],
            "machine": made["machine"],
            # Keras made the step, JAX trained.
            "versions": around["versions"]
            | {"python": made["versions"]["python"], "jax": made["versions"]["jax"]},
            "environment": made["environment"],
            "results": results.measured(model, data) | results.write(model, folder, codewords),
        }
        (folder / "run.json").write_text(json.dumps(record, indent=2))
        click.echo(
            f"{run['name']}: {record['results']['accuracy']:.2f} % here, {end[5]} % where it was trained"
        )


if __name__ == "__main__":
    main()
