"""Packs CIFAR-10 into sheets of lossless WebP, half its size, and unpacks it where it is trained on.

python zoo/evidence/accelerator/images.py pack sheets --data-dir ~/tensorflow_datasets
python zoo/evidence/accelerator/images.py unpack sheets --output cifar10.npz
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import click
import numpy as np
from PIL import Image

_SIZE, _WIDE, _ON_A_SHEET = 32, 40, 1000


@click.group()
def main():
    """CIFAR-10 as sheets of images."""


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--data-dir", help="Where TensorFlow Datasets keeps CIFAR-10.")
def pack(folder: Path, data_dir: str | None) -> None:
    """Writes 1,000 images a sheet, and the labels."""
    import tensorflow_datasets as tfds

    folder.mkdir(parents=True, exist_ok=True)
    parts = tfds.load("cifar10", data_dir=data_dir, batch_size=-1, download=False)
    for split, part in parts.items():
        np.save(folder / f"{split}_labels.npy", part["label"].numpy().astype(np.uint8))
        images = part["image"].numpy()
        for number in range(len(images) // _ON_A_SHEET):
            some = images[number * _ON_A_SHEET :][:_ON_A_SHEET]
            rows = some.reshape(-1, _WIDE, _SIZE, _SIZE, 3).swapaxes(1, 2)
            sheet = Image.fromarray(rows.reshape(-1, _WIDE * _SIZE, 3))
            sheet.save(folder / f"{split}_{number:02}.webp", lossless=True, quality=60, method=4)


def images_of(path: Path) -> np.ndarray:
    """Reads a sheet."""
    rows = np.asarray(Image.open(path).convert("RGB"))
    return rows.reshape(-1, _SIZE, _WIDE, _SIZE, 3).swapaxes(1, 2).reshape(-1, _SIZE, _SIZE, 3)


@main.command()
@click.argument("folders", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), required=True)
def unpack(folders: tuple[Path, ...], output: Path) -> None:
    """Reads sheets, which may lie in several folders, into one file."""
    arrays = {}
    with ProcessPoolExecutor() as pool:
        for split in ("train", "test"):
            paths = sorted(
                (path for folder in folders for path in folder.glob(f"{split}_*.webp")),
                key=lambda path: path.name,
            )
            arrays[f"x_{split}"] = np.concatenate(list(pool.map(images_of, paths)))
            labels = next(path for folder in folders for path in folder.glob(f"{split}_labels.npy"))
            arrays[f"y_{split}"] = np.load(labels)[: len(arrays[f"x_{split}"])]
    np.savez(output, **arrays)
    click.echo({name: array.shape for name, array in arrays.items()})


if __name__ == "__main__":
    main()
