"""What `larq-sks train` prints, and how it prepares the process."""

from __future__ import annotations

import os
from pathlib import Path

import tensorflow as tf

from larq_sks_zoo.training import recipes, run
from larq_sks_zoo.training.folder import LOG, RUN


def listing() -> list[dict]:
    """Lists the recipes with what they are."""
    return [
        {
            "recipe": recipe.name,
            "network": recipe.network,
            "dataset": recipe.dataset,
            "epochs": sum(stage.epochs for stage in recipe.stages),
            "fine_tuning_epochs": recipe.compact.epochs,
            "description": recipe.description,
        }
        for recipe in recipes.RECIPES
    ]


def train(recipe: str, output: Path | None, **options) -> tuple[Path, run.Trained]:
    """Trains by a recipe; without a folder, in one that is named after recipe, codewords and seed."""
    wanted = recipes.get(recipe)
    if output is None:
        codewords = options["num_codewords"]
        bits = "1bit" if codewords is None else f"n{codewords}"
        output = Path("larq-sks-runs", f"{recipe}_{bits}_seed{options['seed']}")
    # A run that was broken off must come to the same. For the whole process, hence not in the library.
    if not _has_one_thread():
        tf.config.experimental.enable_op_determinism()
    return output, run.train(wanted, output, **options)


def _has_one_thread() -> bool:
    """Tells whether TensorFlow computes in one order anyway: on a CPU, with one thread."""
    names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    return not tf.config.list_physical_devices("GPU") and all(
        os.environ.get(name) == "1" for name in names
    )


def text(output: Path, trained: run.Trained) -> str:
    """Says what came out."""
    results = trained.record.get("results")
    if results is None:
        return "Done. The first worker writes the results."
    settings = trained.record["settings"]
    kib = {name: results[f"{name}_bits"] / 8 / 1024 for name in ("binary", "codebook", "model")}
    lines = [
        f"{settings['network']} on {settings['dataset']}: {results['accuracy']:.2f}% of "
        f"{results['test_images']:,} test images are classified correctly.",
        f"{results['bits_a_weight']:.2f} bit a binary weight: {kib['binary']:,.1f} KiB of binary kernels and "
        f"{kib['codebook']:,.1f} KiB of codebooks, {kib['model']:,.1f} KiB with all other weights as float32.",
        f"{output / results['file']}: {results['bytes'] / 1024:,.1f} KiB"
        + (", latent weights included" if settings["num_codewords"] is None else "")
        + f". Log: {output / LOG}, record: {output / RUN}.",
    ]
    if results["note"]:
        lines.append(results["note"])
    if not trained.is_new:
        lines.insert(0, f"This run was finished already ({trained.record['finished']}).")
    return "\n".join(lines)
