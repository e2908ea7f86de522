"""The settings of the web application."""

import os
import subprocess
import sys

import pytest

from tests.conftest import PROJECT
from webapp import create_app, settings


@pytest.mark.parametrize("name", settings.Settings.model_fields)
def test_every_setting_is_an_environment_variable(monkeypatch, name):
    kind = settings.Settings.model_fields[name].annotation
    monkeypatch.setenv(name, {int: "7", float: "7"}.get(kind, "redis://h:7" if name == "RATE_STORAGE" else "h:7"))
    if name == "RATE_STATE":
        with pytest.raises(settings.SettingsError, match="RATE_STORAGE"):
            settings.load()
    else:
        assert "7" in str(getattr(settings.load(), name))


def test_the_environment_configures_and_the_argument_wins(monkeypatch):
    monkeypatch.setenv("TRITON_URL", "127.0.0.1:1")
    monkeypatch.setenv("MAX_IN_FLIGHT", "")
    assert create_app().config["TRITON_URL"] == "127.0.0.1:1" and create_app().config["MAX_IN_FLIGHT"] == 16
    assert create_app({"TRITON_URL": "127.0.0.1:2", "TESTING": True}).config["TRITON_URL"] == "127.0.0.1:2"


WRONG = {
    "no number": ({"RATE_LIMIT": "many"}, "RATE_LIMIT: expected a valid number"),
    "negative": ({"RATE_LIMIT": "-1"}, "RATE_LIMIT: expected greater than or equal to 0. Received: '-1'"),
    "no proxies": ({"TRUSTED_PROXIES": "-1"}, "TRUSTED_PROXIES: expected greater than or equal to 0"),
    "nothing in flight": ({"MAX_IN_FLIGHT": "0"}, "MAX_IN_FLIGHT: expected greater than or equal to 1"),
    "no time": ({"CLASSIFY_TIMEOUT": "nan"}, "CLASSIFY_TIMEOUT: expected"),
    "a scheme": ({"TRITON_URL": "http://h:1"}, "TRITON_URL: expected a url of the form host:port"),
    "no storage": ({"RATE_STORAGE": "file:///x"}, "RATE_STORAGE: expected memory:// or"),
    "the file of counts": ({"RATE_STATE": "/x"}, "RATE_STORAGE=redis://"),
    "two workers that count alone": ({"RATE_LIMIT": "5", "WEB_CONCURRENCY": "2"}, "RATE_STORAGE=redis://"),
}


@pytest.mark.parametrize(("values", "text"), WRONG.values(), ids=WRONG)
def test_a_wrong_value_is_one_line_that_names_it(monkeypatch, values, text):
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(settings.SettingsError) as caught:
        create_app()
    assert text in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("module", ["webapp.keys", "webapp.audit", "webapp"])
def test_commands_start_without_a_warning(module):
    done = subprocess.run([sys.executable, "-W", "error", "-m", module, "--help"], cwd=PROJECT, capture_output=True,
                          text=True, env=os.environ, timeout=60)
    assert done.returncode == 0 and not done.stderr
