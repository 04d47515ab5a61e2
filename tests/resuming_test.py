"""A preparation of embeddings that was interrupted goes on where it ended."""

from pathlib import Path

import pytest
from safetensors.numpy import save_file

from configs import whisper
from data_prep.prepare import prepare
from data_prep.records.sorting import Sorter
from ser_jax.encoders.embedding import Encoder
from tests.encoders_test import SIZE, tensors_of


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_interrupted_preparation_goes_on(tiny, tmp_path, monkeypatch, capsys):
    save_file(tensors_of(SIZE), tmp_path / "model.safetensors")

    def config_in(name: str):
        config = whisper.get_config()
        config.corpus = tiny().corpus
        config.encoder.path, config.records_dir = str(tmp_path), str(tmp_path / name)
        return config

    embed, add, embedded = Encoder.embed, Sorter.add, []

    def counting(self, *args):
        embedded.append(1)
        return embed(self, *args)

    def interrupted(self, key, record):
        if self.n_records == 30:
            raise KeyboardInterrupt
        add(self, key, record)

    monkeypatch.setattr(Encoder, "embed", counting)
    whole = prepare(config_in("whole"))
    n_clips = len(embedded)
    monkeypatch.setattr(Sorter, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(config_in("resumed"))
    monkeypatch.setattr(Sorter, "add", add)
    [place] = (tmp_path / "resumed/feature_records").iterdir()
    finished = sorted(place.glob("batches/[0-9]*"))
    assert len(finished) >= 4
    # What is of other clips is not used.
    finished[0].write_bytes(finished[0].read_bytes().replace(b'"clips": ["', b'"clips": ["x', 1))
    embedded.clear()
    capsys.readouterr()
    resumed = prepare(config_in("resumed"))
    assert "An interrupted preparation has finished" in capsys.readouterr().out
    assert len(embedded) < n_clips  # threads may still have been at work when it was interrupted
    assert contents(resumed) == contents(whole)
    assert [path.name for path in place.iterdir()] == ["1.0.0"]
