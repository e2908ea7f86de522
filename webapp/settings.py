"""Every setting of the web application: an environment variable of its name, checked before anything starts."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from core import contract
from imaging import limits

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
MEMORY = "memory://"
STORAGES = ("redis://", "rediss://", "redis+unix://")


class SettingsError(ValueError):
    """A setting cannot be used; the message is one line that names it, what was expected and what came."""


class Settings(BaseSettings):
    """The settings. What is given to the constructor wins over the environment; an empty variable counts as none.

    Raises:
        pydantic.ValidationError: a value is out of its range; load() makes one line of it.
    """

    model_config = SettingsConfigDict(case_sensitive=True, env_ignore_empty=True, extra="ignore", frozen=True)

    TRITON_URL: str = Field("127.0.0.1:8000", description="host:port of Triton's HTTP endpoint")
    MODEL_REPOSITORY: Path | None = Field(None, description="folder that Triton serves, for the page about the models")
    TRITON_STATE: Path | None = Field(None, description="file in which `python -m serving` names both, as they change")
    AUDIT_LOG: Path | None = Field(None, description="folder for the record of every prediction")
    AUDIT_KEY_FILE: Path | None = Field(None, description="file with its key; else the folder's own")
    API_KEYS: Path | None = Field(None, description="file of API keys; with it everybody needs one")
    RATE_LIMIT: float = Field(0, ge=0, allow_inf_nan=False, description="images a minute of one client; 0: no limit")
    RATE_BURST: Count = Field(20, description="images of one client at once")
    RATE_STORAGE: str = Field(MEMORY, description="where they are counted; redis://host:port for several workers")
    RATE_STATE: str | None = Field(None, exclude=True)
    WEB_CONCURRENCY: Count = Field(1, description="gunicorn's workers")
    # Of another site, whose name leads to this machine, a browser says that it is its own (DNS rebinding).
    TRUSTED_HOSTS: str | None = Field(None, description="names under which it is asked, with commas; others get 400")
    TRUSTED_PROXIES: int = Field(0, ge=0, description="proxies in front that each add to X-Forwarded-For; 0: no such "
                                                      "header is believed")
    CLASSIFY_TIMEOUT: Positive = Field(10.0, description="seconds for one classification")
    STATUS_TIMEOUT: Positive = Field(3.0, description="seconds for each question behind / and /health")
    # More would wait in a queue until their deadline: better an early 503.
    MAX_IN_FLIGHT: Count = Field(16, description="images handed to Triton at the same time")
    # A file of exactly MAX_BYTES and the form around it.
    MAX_CONTENT_LENGTH: Count = Field(limits.MAX_BYTES + 64 * 2**10, description="bytes of one upload")
    MAX_FORM_MEMORY_SIZE: Count = Field(64 * 2**10, description="bytes of all fields that are no files")
    MAX_FORM_PARTS: Count = Field(8, description="parts of a form, beside a batch's images")
    MAX_UPLOADS_MEMORY: Count = Field(256 * 2**20, description="bytes of all uploads that are being received")
    UPLOAD_TIMEOUT: Positive = Field(30.0, description="seconds for receiving one upload")

    @field_validator("TRITON_URL")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if not contract.ADDRESS.fullmatch(value):
            raise ValueError("expected a url of the form host:port without a scheme")
        return value

    @field_validator("RATE_STATE")
    @classmethod
    def _is_gone(cls, value: str | None) -> str | None:
        if value is not None:
            raise ValueError("there is no such setting any more: several workers count in RATE_STORAGE=redis://host:port")
        return value

    @field_validator("RATE_STORAGE")
    @classmethod
    def _is_storage(cls, value: str) -> str:
        if value != MEMORY and not value.startswith(STORAGES):
            raise ValueError(f"expected {MEMORY} or the address of a Redis or Valkey server, such as redis://host:6379")
        return value

    @model_validator(mode="after")
    def _workers_count_together(self) -> "Settings":
        if self.RATE_LIMIT and self.WEB_CONCURRENCY > 1 and self.RATE_STORAGE == MEMORY:
            raise ValueError("RATE_LIMIT with several workers (WEB_CONCURRENCY) needs RATE_STORAGE=redis://host:port")
        return self


def load(overrides: dict[str, Any] | None = None) -> Settings:
    """Return the settings.

    Args:
        overrides: values that win over the environment; names that are no settings are ignored.

    Raises:
        SettingsError: a value cannot be used.
    """
    try:
        return Settings(**{name: value for name, value in (overrides or {}).items() if name in Settings.model_fields})
    except ValidationError as error:
        raise SettingsError(sentence(error)) from None


def sentence(error: ValidationError) -> str:
    """Return the first thing that is wrong in one line."""
    first = error.errors()[0]
    text = first["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    if not first["loc"]:
        return f"{text}."
    return f"{first['loc'][0]}: {text}. Received: {first['input']!r}."


def table() -> str:
    """Return the name, the default and the meaning of each setting, a line each."""
    shown = {name: field for name, field in Settings.model_fields.items() if not field.exclude}
    return "\n".join(f"  {name:22} {'' if field.default is None else field.default!s:16} {field.description}"
                     for name, field in shown.items())
