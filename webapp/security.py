"""Headers for every answer, and the refusal of posts that another site makes a visitor's browser send."""

from urllib.parse import urlsplit

from flask import Response, request

from webapp.refused import Refused

HEADERS = {
    # blob: is the preview of the chosen file, made in the browser; data: are the heatmaps in an answer.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    # Not no-referrer: with it browsers send `Origin: null` along with our own form, which the check below refuses.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def is_cross_site() -> bool:
    """Say whether a browser sent the current request on behalf of another site.

    Browsers state it in Sec-Fetch-Site; those that do not (old ones, or plain HTTP) send Origin with every POST.
    Programs send neither and pass. Source: the OWASP cheat sheet on cross-site request forgery, "Fetch Metadata".
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = request.headers.get("Origin")
    return origin is not None and urlsplit(origin).netloc != request.host


def refuse_cross_site() -> None:
    """Raise Refused (403) for a POST from another site."""
    if request.method == "POST" and is_cross_site():
        raise Refused(403, "cross_site", "This form was sent by another site. Open this page itself and send it there.")


def add_headers(response: Response) -> Response:
    """Set the security headers; answers are never stored, as they tell about someone's image."""
    response.headers.update(HEADERS)
    if request.endpoint != "static":
        response.headers["Cache-Control"] = "no-store"
    return response
