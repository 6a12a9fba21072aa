from alps.base.cache import cache_dir


def test_cache_dir_is_what_the_variable_says(tmp_path, monkeypatch):
    monkeypatch.setenv("ALPS_CACHE_DIR", str(tmp_path / "cache"))
    assert cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("ALPS_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "alps"
