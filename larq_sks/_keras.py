"""Says what to do where Larq would fail on Keras 3: import this before Larq."""

import tensorflow as tf


def check() -> None:
    """Raises an ImportError if TensorFlow brings Keras 3."""
    if not hasattr(tf.keras.layers, "LocallyConnected1D"):  # what `import larq` stumbles over
        raise ImportError(
            "Larq, and with it larq_sks, needs Keras 2. "
            f"Received: Keras 3, which TensorFlow {tf.__version__} brings. Install tf-keras of the same "
            "version and set the environment variable TF_USE_LEGACY_KERAS=1 before TensorFlow is "
            "imported: `export TF_USE_LEGACY_KERAS=1` in the shell, or "
            "`os.environ['TF_USE_LEGACY_KERAS'] = '1'` in the first lines of the program."
        )


check()
