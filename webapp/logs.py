"""Log lines as JSON, one object a line, of the application and of gunicorn alike: time, level, message, and fields."""

import logging
import logging.config

FORMAT = {
    "()": "pythonjsonlogger.json.JsonFormatter", "fmt": ["levelname", "message"], "timestamp": "time",
    "rename_fields": {"levelname": "level", "exc_info": "traceback"}}
CONFIG = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": FORMAT},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}},
    "root": {"level": "WARNING", "handlers": ["stderr"]},
    "loggers": {
        __package__: {"level": "INFO"},
        "gunicorn.error": {"level": "INFO", "handlers": ["stderr"], "propagate": False},
        "gunicorn.access": {"level": "INFO", "handlers": ["stderr"], "propagate": False}},
}
"""For logging.config.dictConfig, and for gunicorn's logconfig_dict."""


def configure() -> None:
    """Write log lines as CONFIG says, unless whoever runs the application has set up logging."""
    if not logging.getLogger().handlers:
        logging.config.dictConfig(CONFIG)
    logging.getLogger(__package__).setLevel(logging.INFO)
