from pathlib import Path

import pytest

from aerogel._util.cache import cache_folder
from aerogel.checkpoint import samples
from aerogel.tuning.cache import Cache


@pytest.fixture
def unset(monkeypatch):
    monkeypatch.delenv("AEROGEL_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    return monkeypatch


def test_a_user_without_a_home(unset):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    unset.setattr(Path, "home", homeless)
    assert cache_folder().name.startswith("aerogel-")


def test_a_tilde_means_the_home_everywhere(unset, tmp_path):
    unset.setenv("HOME", str(tmp_path))
    unset.setenv("AEROGEL_CACHE", "~/x")
    assert cache_folder() == tmp_path / "x"
    assert Cache.shared()._file.parent == tmp_path / "x"
    sample = samples.SAMPLES["all-MiniLM-L6-v2"]
    ready = tmp_path / "x" / "models" / f"all-MiniLM-L6-v2-{sample.sha256[:8]}" / "model"
    ready.mkdir(parents=True)
    assert samples.fetch("all-MiniLM-L6-v2") == ready
