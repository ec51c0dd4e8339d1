"""Tokenized rows written in one go, as the data stage writes them part by part."""

from __future__ import annotations

import numpy as np

from runtime.data.dataset import Writer


def save_rows(rows, train, validation, folder, *, packs=None):
    """Writes rows, and the lists of row numbers (with repetitions) for training and validation."""
    with Writer(folder) as writer:
        for row in rows:
            weights = None if row.weights is None else np.array(row.weights)
            writer.add(np.array(row.input_ids), np.array(row.trained), weights, np.array([len(row.input_ids)]))
        writer.finish(train, validation, packs)
