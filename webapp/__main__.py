"""The development server: `python -m webapp`. Production uses gunicorn, see webapp/gunicorn.conf.py."""

import argparse
import logging

from webapp import create_app, settings
from webapp.audit import AuditError
from webapp.keys import KeyFileError

EPILOG = f"""settings (environment variables, by default):
{settings.table()}

example:
  python -m serving --repository model_repository -- python -m webapp --port 5000
  then open http://127.0.0.1:5000
"""


def port(text: str) -> int:
    """Read a port number, 1-65535. Raises ArgumentTypeError."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise argparse.ArgumentTypeError(f"Expected a port from 1 to 65535. Received: {text}.")
    return int(text)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; None means sys.argv."""
    parser = argparse.ArgumentParser(
        prog="python -m webapp",
        description="Run the page on 127.0.0.1 for development. For production: "
        "gunicorn -c webapp/gunicorn.conf.py 'webapp:create_app()'",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=port, default=5000, help="port to listen on (default: %(default)s)")
    parser.add_argument("--triton-url", help="host:port of Triton's HTTP port, instead of TRITON_URL")
    parser.add_argument("--check", action="store_true", help="only say whether the settings can be used")
    return parser.parse_args(arguments)


def main() -> None:
    """Run the development server until it is interrupted, or only check the settings."""
    arguments = parse_arguments()
    try:
        app = create_app({"TRITON_URL": arguments.triton_url} if arguments.triton_url else None)
    except (ValueError, OSError, AuditError, KeyFileError) as error:
        raise SystemExit(f"The settings cannot be used. {error}") from error
    if arguments.check:
        return
    # The application writes its own line for each request; the server's would say it twice.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    print(f"http://127.0.0.1:{arguments.port} with Triton at {app.config['TRITON_URL']}; Ctrl-C ends it", flush=True)
    app.run(host="127.0.0.1", port=arguments.port)


if __name__ == "__main__":
    main()
