import os
import pwd
import sys
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


@pytest.mark.parametrize("chosen", [None, "~/x"])
def test_a_user_without_a_home(unset, chosen):
    def homeless(number):
        raise KeyError(f"getpwuid(): uid not found: {number}")

    unset.delenv("HOME", raising=False)
    unset.setattr(pwd, "getpwuid", homeless)
    if chosen:
        unset.setenv("AEROGEL_CACHE", chosen)
    assert cache_folder().name == f"aerogel-{os.getuid()}"
    assert cache_folder().is_absolute()


@pytest.mark.skipif(sys.platform == "darwin", reason="caches lie in ~/Library/Caches")
def test_the_place_of_the_platform(unset, tmp_path):
    unset.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "aerogel"
    unset.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert cache_folder() == tmp_path / "caches" / "aerogel"
    assert not cache_folder().exists()


def test_a_relative_folder_is_the_users_choice(unset):
    unset.setenv("AEROGEL_CACHE", "here")
    assert cache_folder() == Path("here")


def test_a_tilde_means_the_home_everywhere(unset, tmp_path):
    unset.setenv("HOME", str(tmp_path))
    unset.setenv("AEROGEL_CACHE", "~/x")
    assert cache_folder() == tmp_path / "x"
    assert Cache.shared()._file.parent == tmp_path / "x"
    sample = samples.SAMPLES["all-MiniLM-L6-v2"]
    ready = tmp_path / "x" / "models" / f"all-MiniLM-L6-v2-{sample.sha256[:8]}" / "model"
    ready.mkdir(parents=True)
    assert samples.fetch("all-MiniLM-L6-v2") == ready
