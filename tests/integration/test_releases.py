"""Releases: published under load, refused when bad, taken back; a publisher that is killed at any moment."""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from urllib import request

import pytest

from core import contract
from serving import releases, snapshot
from serving.errors import ServingError
from serving.server import Server
from serving.started import started
from serving.supervisor import Keeper
from tests.support import repository as small
from tests.support.repository import SERVED
from tests.support.site import COMMAND, ROOT, ask, form, predict

OTHER = small.FACTS | {contract.DATA_SOURCE: "other"}


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A repository whose networks and facts differ from `repository`."""
    folder = tmp_path_factory.mktemp("other") / "model_repository"
    small.write(folder, 10, OTHER)
    return folder


@pytest.fixture(scope="module")
def published(repository, tmp_path_factory):
    """A store with `repository` as its only release; publishing starts a Triton, so it is done once."""
    folder = tmp_path_factory.mktemp("published") / "releases"
    releases.publish(repository, folder)
    return folder


@pytest.fixture
def store(published, tmp_path):
    """A store of the test's own, with `repository` as its only release."""
    return shutil.copytree(published, tmp_path / "releases", symlinks=True)


CONTAINER = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
"""Runs a program that sees no process of others, as in a container."""


@contextmanager
def serving(store, log, inside=()):
    """Run `python -m serving` with gunicorn on a store; yield the page's address and the process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    words = [*inside, sys.executable, "-m", "serving", "--repository", str(store), "--http-port", "0",
             "--log-file", str(log.with_suffix(".triton")), "--", *COMMAND]
    with started(words, f"http://{address}/health", 60, log, cwd=ROOT, env=os.environ | {"BIND": address}) as process:
        yield address, process
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)  # unshare itself passes no signal on
            process.wait(30)


def wait_for(log, text, seconds=30.0):
    """Return once the log says something; fail if it never does."""
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        if text in log.read_text():
            return
        time.sleep(0.05)
    pytest.fail(f"no {text!r} in {log.read_text()}")


def test_publish_and_rollback_under_load_lose_and_mix_nothing(repository, store, other, scans, tmp_path):
    log, seen, first = tmp_path / "log", [], releases.current(store).name
    bad = small.with_wrong_numbers(repository, tmp_path / "bad")
    with serving(store, log) as (site, _):
        ended = threading.Event()

        def load() -> None:
            while not ended.is_set():
                status, _, answer = predict(site, scans[0])
                seen.append((status, answer.get("data_source"), json.dumps(answer.get("all_probabilities"))))

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        second = releases.publish(other, store)
        wait_for(log, f"Release {second} serves")
        with pytest.raises(ServingError, match="golden image 0"):
            releases.publish(bad, store)
        assert releases.current(store).name == second
        time.sleep(1)
        assert releases.rollback(store) == first
        wait_for(log, f"Release {first} serves", 60)
        time.sleep(1)
        ended.set()
        for thread in threads:
            thread.join()
    assert {status for status, *_ in seen} == {200}
    pairs = {pair for _, *pair in map(tuple, seen) for pair in [tuple(pair)]}
    assert {source for source, _ in pairs} == {contract.PHANTOM, "other"} and len(pairs) == 2
    assert [source for _, source, _ in seen][-1] == contract.PHANTOM
    assert not list((store / second).glob("*.*Z-*"))  # nothing of older ones, as none was asked for


def test_two_containers_that_share_a_store_touch_nothing_of_each_other(store, other, scans, tmp_path):
    logs = [tmp_path / str(number) for number in range(3)]

    def held() -> set:
        return set((store / ".serving").glob("run-*"))

    with serving(store, logs[0], CONTAINER) as (site, _):
        mine = held()
        with serving(store, logs[1], CONTAINER) as (_, killed):
            theirs = held() - mine
            os.killpg(killed.pid, signal.SIGKILL)
        assert predict(site, scans[0])[0] == 200 and len(mine) == len(theirs) == 2 and mine | theirs <= held()
        with serving(store, logs[2], CONTAINER) as (restarted, _):
            assert mine <= held() and not theirs & held()
            second = releases.publish(other, store)
            for one in (logs[0], logs[2]):
                wait_for(one, f"Release {second} serves")
            assert mine <= held()  # the one before goes on for a while
            assert [predict(one, scans[0])[2]["data_source"] for one in (site, restarted)] == ["other"] * 2
        assert predict(site, scans[0])[0] == 200 and ask(site, "GET", "/health")[0] == 200
    assert not held()
    assert [entry["event"] for entry in releases.log(store)] == [
        releases.PUBLISHED, *[releases.SERVES] * 3, releases.PUBLISHED, *[releases.SERVES] * 2]


def looked_until(keeper, condition, seconds=60.0) -> bool:
    """Let a keeper do its work until something has come true; return whether it has."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        assert keeper.look()
        time.sleep(0.05)
    return condition()


def test_triton_is_watched_while_a_release_starts_and_what_fails_for_a_while_is_tried_again(
        store, other, monkeypatch, capfd):
    slow, take, first = threading.Event(), snapshot.take, releases.current(store)
    begun = []

    def take_slowly(source, destination):
        if source != first:
            begun.append(source)
            slow.wait(60)
            if len(begun) == 1:
                raise OSError("Cannot allocate memory")
        return take(source, destination)

    monkeypatch.setattr(snapshot, "take", take_slowly)
    with Server(first) as server:
        keeper = Keeper(server, store, check_every=60)
        releases.point(store, shutil.copytree(other, store / "9-second").name)
        assert looked_until(keeper, lambda: begun)
        os.kill(server.pid, signal.SIGKILL)
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            assert looked_until(keeper, lambda: not server.is_running())
            taken.bind(("127.0.0.1", server.http_port))
            taken.listen()
            assert looked_until(keeper, lambda: keeper._starts.failures)
        assert looked_until(keeper, lambda: not keeper._starts.failures) and server.is_running()
        server.check()
        slow.set()
        assert looked_until(keeper, lambda: keeper.server is not server)
        keeper.server.check()
        keeper.end()
    printed = capfd.readouterr().err
    assert "Triton does not start, next try in 1 s" in printed and "Triton answers again" in printed
    assert f"Release 9-second does not start, {first.name} goes on, next try in 1 s: Cannot" in printed
    assert not list((store / ".serving").iterdir())


def test_an_older_release_answers_beside_the_current_one(store, other, classifier, scans, tmp_path):
    first = releases.current(store).name
    second = releases.publish(other, store, older=1)
    older = f"resnet50.{first}"
    expected, averaged = (classifier.classify(scans[0], "resnet50", tta) for tta in (False, True))
    with serving(store, tmp_path / "log") as (site, _):
        now, then, mean = (predict(site, scans[0], **fields)[2] for fields in (
            {"model": "resnet50"}, {"model": older}, {"model": older, "tta": "1"}))
        assert (now["data_source"], then["data_source"]) == ("other", contract.PHANTOM)
        assert now["all_probabilities"] != then["all_probabilities"]
        assert (then["model_type"], mean["review_threshold"]) == (older, 0.6)
        assert then["all_probabilities"] == pytest.approx(expected.probabilities, abs=1e-4)
        assert mean["all_probabilities"] == pytest.approx(averaged.probabilities, abs=1e-4)
        assert set(ask(site, "GET", "/health")[2]["models"]) == {
            name + end for name in SERVED for end in ("", f".{first}")}
        assert predict(site, scans[0], model=f"resnet50.{second}")[2]["code"] == "unknown_release"
        assert ask(site, "GET", f"/health?model=resnet50.{second}")[0] == 404
        assert ask(site, "GET", f"/health?model={older}")[2]["models"] == {older: True}
        body, headers = form(scans[0], model=older)
        page = request.urlopen(request.Request(f"http://{site}/predict", body, headers | {"Accept": "text/html"}))
        text = page.read().decode()
        assert re.search(f'value="{older}" checked', text) and f"ResNet-50, release {first}" in text
    third = shutil.copytree(other, tmp_path / "third")
    releases.add_older(third, store, 9)
    names = {path.name.partition(".")[2] for path in third.glob("custom*")}
    assert names == {"", first, second}  # the releases themselves, not what they had of others


def test_a_release_that_was_damaged_in_the_store_never_serves(store, other, scans, tmp_path):
    log, first = tmp_path / "log", releases.current(store).name
    with serving(store, log) as (site, _):
        shutil.copytree(other, store / "20990101T000000.000000Z-damaged")
        file = next((store / "20990101T000000.000000Z-damaged").rglob("variables.data*"))
        file.write_bytes(file.read_bytes()[:-1] + b"?")
        releases.point(store, "20990101T000000.000000Z-damaged")
        wait_for(log, f"is refused, {first} goes on")
        assert predict(site, scans[0])[2]["data_source"] == contract.PHANTOM
        assert ask(site, "GET", "/health")[0] == 200
        assert releases.rollback(store, first) == first


def test_a_publisher_killed_at_any_moment_leaves_a_store_that_loads(store, other):
    words = [sys.executable, "-m", "serving.releases", "publish", str(other), "--store", str(store)]
    moments = random.Random(0)
    for _ in range(4):
        process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(moments.uniform(0.2, 3.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
        release = releases.current(store)
        snapshot.require_manifest(release, release)
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert releases.current(store).name in done.stdout
    hidden = {path.name for path in store.glob(".*")}
    assert hidden <= {releases.LOCK, ".trial"} and not list((store / ".trial").iterdir())


def test_only_so_many_releases_are_kept_and_never_one_publisher_too_many(repository, store):
    names = [releases.current(store).name, *(releases.publish(repository, store, keep=2) for _ in range(2))]
    assert releases.names(store) == names[1:]
    with releases.alone(store), pytest.raises(ServingError, match="another one is at work"):
        releases.publish(repository, store)
    with pytest.raises(ServingError, match="one of the releases"):
        releases.rollback(store, names[0])
    assert releases.rollback(store) == names[1]
    with pytest.raises(ServingError, match="a release that was current before.*--to"):
        releases.rollback(store)


def test_rollback_goes_back_along_what_was_current_and_was_not_rejected(tmp_path, capsys):
    store = tmp_path / "releases"
    names = [f"{number}-name" for number in range(5)]
    for name in names:
        (store / name).mkdir(parents=True)
    releases.point(store, names[0])  # by a version that wrote no log
    releases.move(store, releases.PUBLISHED, names[1])
    releases.move(store, releases.PUBLISHED, names[2])
    assert releases.rollback(store) == names[1]
    releases.move(store, releases.PUBLISHED, names[3])
    releases.record(store, releases.SERVES, names[3])
    assert releases.rollback(store) == names[1]  # not names[2], which was taken back
    releases.move(store, releases.PUBLISHED, names[3])
    releases.record(store, releases.REJECTED, names[3], reason="Expected right answers.\nReceived: wrong ones.")
    releases.move(store, releases.PUBLISHED, names[4])
    assert releases.main(["list", "--store", str(store)]) == releases.main(["log", "--store", str(store)]) == 0
    printed = capsys.readouterr().out
    assert f"  {names[3]} rejected: Expected right answers. Received" in printed and f"* {names[4]}\n" in printed
    assert f"rolled back to {names[1]}" in printed
    releases.delete_older(store, keep=3)
    assert releases.names(store) == [names[1], names[3], names[4]]  # those on the way, though another one is newer
    assert releases.rollback(store) == names[1]


def test_rollback_looks_what_is_current_only_when_nobody_publishes(tmp_path):
    store = tmp_path / "releases"
    (store / "1-name").mkdir(parents=True)
    releases.point(store, "1-name")  # nothing to go back to, which is not to be said of a store that is changing
    with releases.alone(store), pytest.raises(ServingError, match="another one is at work"):
        releases.rollback(store)


def test_ctrl_c_says_which_release_is_current_now(tmp_path, monkeypatch, capsys):
    def stopped(_repository, store, *_options):
        releases.move(store, releases.PUBLISHED, "2-name")
        raise KeyboardInterrupt

    store = tmp_path / "releases"
    for name in ("1-name", "2-name"):
        (store / name).mkdir(parents=True)
    releases.point(store, "1-name")
    monkeypatch.setattr(releases, "publish", stopped)
    assert releases.main(["publish", "--store", str(store)]) == 130
    assert "Current: 2-name" in capsys.readouterr().err


def test_what_happens_after_the_switch_is_no_failed_publication(tmp_path, monkeypatch, capsys):
    store = tmp_path / "releases"
    for name in ("1-name", "2-name"):
        (store / name).mkdir(parents=True)
    (store / releases.LOG).mkdir()  # cannot be written
    monkeypatch.setattr(releases, "log", lambda _store: [])
    monkeypatch.setattr(releases.shutil, "rmtree", lambda *_arguments: (store / "2-name/none").unlink())  # nor deleted
    releases.move(store, releases.PUBLISHED, "2-name")
    releases.delete_older(store, keep=1)
    errors = capsys.readouterr().err
    assert releases.current(store).name == "2-name"
    assert "Release 1-name cannot be deleted" in errors and "cannot be written" in errors


def test_a_mistake_is_one_line(tmp_path):
    for words in (["rollback"], ["list"], ["publish", str(tmp_path / "none")]):
        done = subprocess.run([sys.executable, "-m", "serving.releases", *words, "--store", str(tmp_path / "store")],
                              cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 1 and "Expected" in done.stderr and "Traceback" not in done.stderr
