"""Triton's model configurations, config.pbtxt: read, written and asked as messages of Triton's own protobuf.

Export writes them, serving checks and fits them. Clients ask Triton instead, which answers in JSON, so that they need
neither protobuf nor grpcio.
"""

from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from core import files

FILE = "config.pbtxt"


class ConfigError(ValueError):
    """A file is no configuration of Triton's; the message names the file, and the place in it."""


def read(path: Path) -> ModelConfig:
    """Return the configuration in a file.

    Raises:
        ConfigError: it cannot be parsed.
    """
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), ModelConfig())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise ConfigError(f"Expected a configuration of Triton's in {path}. Received: {error}.") from None


def write(path: Path, config: ModelConfig, comment: str = "") -> None:
    """Write a configuration, replacing a previous one as a whole; a comment of one line comes first."""
    head = f"# {comment}\n" if comment else ""
    files.write_text(path, head + text_format.MessageToString(config))


def paths(repository: Path) -> list[Path]:
    """Return the configurations of a model repository, sorted by the models' names."""
    return sorted(repository.glob(f"*/{FILE}"))


def steps(config: ModelConfig) -> tuple[str, ...]:
    """Return the models that a chain calls, in order; empty for other models."""
    return tuple(step.model_name for step in config.ensemble_scheduling.step)


def labels(config: ModelConfig) -> tuple[str, ...]:
    """Return the files that name the classes of an output, relative to the model's folder."""
    return tuple(dict.fromkeys(output.label_filename for output in config.output if output.label_filename))


def parameters(config: ModelConfig) -> dict[str, str]:
    """Return the parameters with their values."""
    return {key: value.string_value for key, value in config.parameters.items()}


def set_parameters(config: ModelConfig, values: dict[str, str]) -> None:
    """Add parameters, or replace those of the same names."""
    for key, value in values.items():
        config.parameters[key].string_value = value
