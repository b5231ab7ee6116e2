"""`python -m bench.peers.keras`: Keras's frozen MobileNetV2 with a dense layer that is trained.

Runs in `.venv-keras`. Weights are random, since speed is what is compared: nothing is downloaded.
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from bench.peers.protocol import BATCH, CLASSES, SIDE, STEP, THREADS, WHOLE, serve

RATE = 1e-4


def main() -> None:
    """Serve both parts."""
    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    base = keras.applications.MobileNetV2(
        input_shape=(SIDE, SIDE, 3), include_top=False, weights=None, pooling="avg"
    )
    base.trainable = False
    noise = np.random.default_rng(0)
    images = noise.standard_normal((BATCH, SIDE, SIDE, 3)).astype(np.float32)
    labels = np.arange(BATCH) % CLASSES
    whole = _compiled(keras.Sequential([base, keras.layers.Dense(CLASSES)]))
    embeddings = np.asarray(base(images, training=False))
    head = _compiled(keras.Sequential([keras.layers.Dense(CLASSES)]))
    serve(
        {
            WHOLE: lambda: float(whole.train_on_batch(images, labels)),
            STEP: lambda: float(head.train_on_batch(embeddings, labels)),
        }
    )


def _compiled(model: keras.Model) -> keras.Model:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(RATE), loss=loss)
    return model


if __name__ == "__main__":
    main()
