"""API keys: the command, the file, and what needs one."""

import pytest

from webapp import create_app, keys


@pytest.fixture
def file(tmp_path):
    """A file that does not exist yet."""
    return tmp_path / "keys"


def add(file, name, capsys) -> str:
    """Add a key and return it."""
    assert keys.main(["add", str(file), name]) == 0
    return capsys.readouterr().out.split()[-1]


def test_a_key_is_shown_once_and_stored_as_a_digest_only(file, capsys):
    first, second = add(file, "a", capsys), add(file, "b", capsys)
    assert first != second and len(first) >= 43
    assert first not in file.read_text() and second not in file.read_text()
    found = keys.Keys(file)
    assert (found.name(first), found.name(second), found.name("other"), found.name("")) == ("a", "b", None, None)
    assert keys.main(["list", str(file)]) == 0 and capsys.readouterr().out.split() == ["a", "b"]


def test_a_removed_key_is_refused_at_once(file, capsys):
    key = add(file, "a", capsys)
    found = keys.Keys(file)
    assert found.name(key) == "a"
    assert keys.main(["remove", str(file), "a"]) == 0
    assert found.name(key) is None


@pytest.mark.parametrize(("words", "status"), [
    (["add", "a"], 1), (["remove", "other"], 1), (["add", "a b"], 2), (["list", "a"], 2), (["add"], 2)])
def test_mistakes_are_one_line_and_change_nothing(file, capsys, words, status):
    add(file, "a", capsys)
    before = file.read_text()
    try:
        ended = keys.main([words[0], str(file), *words[1:]])
    except SystemExit as error:
        ended = error.code
    assert ended == status and "Expected" in capsys.readouterr().err
    assert file.read_text() == before


@pytest.mark.parametrize("text", ["a\n", "a " + "0" * 63 + "\n", ("a " + "0" * 64 + "\n") * 2, "\xff"])
def test_a_file_that_holds_something_else_is_refused(file, text):
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(keys.KeyFileError, match="Expected"):
        keys.Keys(file)


@pytest.mark.parametrize("change", [lambda file: file.write_text("damaged\n"), lambda file: file.unlink()])
def test_where_the_file_cannot_be_read_any_more_nobody_gets_in(file, capsys, change):
    allowed = {"Authorization": f"Bearer {add(file, 'a', capsys)}"}
    web = create_app({"API_KEYS": str(file)}).test_client()
    assert web.get("/", headers=allowed).status_code == 200
    change(file)
    for _ in range(2):
        assert web.get("/", headers=allowed).status_code == 500
    assert web.get("/health/live").status_code == 200


def test_every_endpoint_but_the_open_ones_needs_a_key(file, capsys):
    key = add(file, "a", capsys)
    app = create_app({"API_KEYS": str(file)})
    web, seen = app.test_client(), set()
    for rule in app.url_map.iter_rules():
        path = rule.rule.replace("<path:filename>", "page.css")
        method = "POST" if "POST" in rule.methods else "GET"
        seen.add(rule.endpoint)
        with web.open(path, method=method) as without:
            assert (without.status_code != 401) == (rule.endpoint in keys.OPEN), rule
        with web.open(path, method=method, headers={"Authorization": f"Bearer {key}"}) as answer:
            assert answer.status_code != 401
    assert set(keys.OPEN) <= seen


def test_a_browser_is_asked_for_the_key(file, capsys):
    key = add(file, "a", capsys)
    web = create_app({"API_KEYS": str(file)}).test_client()
    answer = web.get("/", headers={"Accept": "text/html"})
    assert answer.status_code == 401 and answer.headers["WWW-Authenticate"] == 'Basic realm="brain-mri"'
    assert web.get("/", auth=("anybody", key)).status_code == 200
    assert web.get("/", auth=(key, "x")).status_code == 401
    assert web.get("/", headers={"Authorization": "Basic !!"}).status_code == 401
