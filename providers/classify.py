"""Pure: any provider's error -> one class of the tree in `base.py`, with its hint about waiting.

The HTTP status decides (or the number in the body of a 200); a body may only refine it, as in
`_MAY_BECOME`. A 429 is retried with one exception: a code says that the quota is used up, and
nothing says when to come back. OpenAI's `insufficient_quota` is such a 429, which never succeeds;
the quota of a minute or a day comes with a wait. Codes come before words. Words decide only if
nothing else does (a bare message inside a 200), and refine a status only as whole sentences of
known providers: a refused request may be quoted. Bodies may hold anything; none makes these
functions raise.
"""

import json
import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from tokenwire.providers.base import (
    AuthenticationFailed,
    ContentFiltered,
    ContextLengthExceeded,
    InvalidRequest,
    ModelNotFound,
    PermissionDenied,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    Unavailable,
)
from tokenwire.providers.hints import asked_to_wait, retry_after

Class = type[ProviderError]


def _table(rows: Mapping[Class, str]) -> dict[str, Class]:
    return {word: cls for cls, words in rows.items() for word in words.split()}


# Codes are compared in lower case without separators: `RateLimitReached`, `rate_limit_reached` and
# `rate-limit-reached` are equal.
_PRECISE = _table(
    {
        QuotaExhausted: "insufficientquota billinghardlimitreached billingnotactive "
        "insufficientbalance insufficientfunds "
        "insufficientcredits paymentrequired quotaexceeded billingerror arrearage "
        "creditbalancetoolow",
        ContextLengthExceeded: "contextlengthexceeded exceedcontextsizeerror "
        "modelcontextwindowexceeded requesttoolarge "
        "contextwindowexceeded stringabovemaxlength",
        ContentFiltered: "contentfilter contentpolicyviolation responsibleaipolicyviolation "
        "datainspectionfailed moderationblocked",
        AuthenticationFailed: "invalidapikey apikeyinvalid authenticationerror incorrectapikey "
        "noapikey missingapikey accesstokenexpired",
        ModelNotFound: "modelnotfound deploymentnotfound modelnotavailable modeldecommissioned "
        "modelnotexist modeldeprecated",
        RateLimited: "ratelimitexceeded ratelimiterror ratelimitreached toomanyrequests "
        "throttlingexception slowdown",
        PermissionDenied: "permissionerror permissiondenied countrynotsupported "
        "unsupportedcountryregionterritory",
    }
)
_GENERAL = _table(
    {
        RateLimited: "resourceexhausted requests tokens overloadederror engineoverloaded",
        AuthenticationFailed: "unauthenticated unauthorized authentication",
        PermissionDenied: "forbidden accessdenied accessdeniedexception",
        ModelNotFound: "notfound notfounderror resourcenotfoundexception",
        InvalidRequest: "invalidrequesterror invalidargument badrequest badrequesterror "
        "validationexception validationerror "
        "failedprecondition unprocessableentity invalidprompt toolusefailed outofrange",
        Unavailable: "servererror apierror internal internalservererror "
        "internalservererrorexception internalserverexception unavailable "
        "serviceunavailable serviceunavailableexception timeouterror timeout deadlineexceeded "
        "modelstreamerrorexception networkerror "
        "insufficientsystemresource upstreamerror badgateway aborted cancelled",
    }
)
_STATUS: dict[int, Class] = {
    401: AuthenticationFailed,
    402: QuotaExhausted,
    403: PermissionDenied,
    404: ModelNotFound,
    408: Unavailable,
    409: Unavailable,
    413: ContextLengthExceeded,
    425: Unavailable,
    429: RateLimited,
    498: RateLimited,
    529: RateLimited,
}
_MAY_BECOME: dict[Class, frozenset[Class]] = {
    # 400 is vague: Google sends it for a wrong key, Anthropic for an empty account
    InvalidRequest: frozenset(_PRECISE.values()),
    RateLimited: frozenset({QuotaExhausted}),
    Unavailable: frozenset(
        {ContextLengthExceeded, RateLimited}
    ),  # llama.cpp reports a full context as a server error
    PermissionDenied: frozenset({AuthenticationFailed, QuotaExhausted, ContentFiltered}),
    AuthenticationFailed: frozenset({PermissionDenied, QuotaExhausted}),
    ModelNotFound: frozenset({InvalidRequest, AuthenticationFailed, PermissionDenied}),
    QuotaExhausted: frozenset(),
    ContextLengthExceeded: frozenset(
        {RateLimited, QuotaExhausted}
    ),  # a 413 of Groq is a limit of tokens per minute
}
"""The classes into which a body may refine the class of a status."""
_CONTEXT = (
    r"(?:exceed\w*|too long|too large|larger than|longer than)\W.{0,120}(?:context|max(?:imum)? "
    r"(?:input |number of )?(?:length|tokens))"
    r"|(?:context|input token count)\b.{0,120}\b(?:exceed\w*|too long|too large)"
    r"|(?:model'?s?|this) maximum context|maximum context length is"
    r"|^(?:the )?(?:prompt|input) (?:is )?too long|too many (?:input )?tokens|please reduce the "
    r"length of"
)


def _patterns(*rows: tuple[str, Class]) -> tuple[tuple[re.Pattern[str], Class], ...]:
    return tuple((re.compile(pattern, re.IGNORECASE), cls) for pattern, cls in rows)


_SENTENCES = _patterns(
    (_CONTEXT, ContextLengthExceeded),
    (r"^your credit balance is too low", QuotaExhausted),
    (r"^(?:invalid|incorrect|missing|no) (?:x-)?api[ -]?key", AuthenticationFailed),
    (
        r"^(?:the )?(?:requested )?model\b.{0,200}(?:not found|does not exist|not exist)",
        ModelNotFound,
    ),
)
"""Refinements of a status: whole sentences, at the start of the message if it might quote a
request.
"""
_WORDS = _patterns(
    (r"rate.?limit|too many requests|temporarily rate|overloaded|at capacity", RateLimited),
    ((r"credit balance is too low|insufficient (?:quota|balance|credits|funds)|quota (?:is "
    r")?exceeded|exceeded your .{0,80}quota"),
     QuotaExhausted),
    (_CONTEXT, ContextLengthExceeded),
    (r"(?:invalid|incorrect|missing|no) (?:x-)?api[ -]?key|unauthorized|invalid authentication",
        AuthenticationFailed),
    (r"content (?:filter|policy|management policy)|prohibited content", ContentFiltered),
    (r"model .{0,200}(?:not found|does not exist|not exist)", ModelNotFound),
)  # fmt: skip
"""Classes of errors without status and code."""
NO_WORDS = "an error without words"
_MAX_DEPTH = 6
_MESSAGE_CHARS = 1000
_CODE_CHARS = 100
_MAX_READ = 4096
_MAX_CODES = 32


def classify(status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
    """The error of an HTTP answer of 300 and above. `headers` have lower-case names; `body` may be
    anything.
    """
    item = _parse(body)
    detail = _Detail(item)
    message = detail.message or excerpt(body) or f"HTTP {status}"
    proxy = status == 404 and is_page(body)  # only a proxy answers
    cls = Unavailable if proxy else _class_of(status, detail, message, asked_to_wait(headers, item))
    refused = _is_refusal(status, item, detail)
    return cls(
        message,
        code=detail.code or str(status),
        status=status,
        retry_after_s=retry_after(headers, item),
        no_run=refused,
    )


def _is_refusal(status: int, item: Any, detail: "_Detail") -> bool:
    """Whether the provider itself refused to begin. Pages, bare words, 408 and statuses from 500 on
    may come from a proxy that has passed the request on.
    """
    refuses = 400 <= status < 500 and status != HTTPStatus.REQUEST_TIMEOUT
    return refuses and isinstance(item, dict | list) and bool(detail.message or detail.codes)


def classify_stream_error(
    item: Mapping[str, Any], *, certain: bool = False
) -> ProviderError | None:
    """The error in a JSON object of a 200's body, or None. `certain`: its surroundings mark it as
    an error.
    """
    if not certain and not _is_error(item):
        return None
    detail = _Detail(item)
    message = detail.message or NO_WORDS
    cls = _class_of(detail.status, detail, message, asked_to_wait({}, item))
    return cls(
        message,
        code=detail.code,
        status=detail.status,
        retry_after_s=retry_after({}, item),
        no_run=True,
    )


def is_page(body: bytes) -> bool:
    """Whether this is a web page: proxies report errors so, but no API does."""
    return (
        body[:200].lstrip().lower().startswith((b"<html", b"<!doctype html", b"<head", b"<center"))
    )


def _is_error(item: Mapping[str, Any]) -> bool:
    return bool(item.get("error")) or item.get("type") == "error" or item.get("object") == "error"


class _Detail:
    """The details of an error body: its words, all its codes, and a numeric status."""

    def __init__(self, item: Any) -> None:
        self.message = ""
        self.codes: list[str] = []
        self.status: int | None = None
        self._read(item, 0)

    @property
    def code(self) -> str | None:
        """The most specific code: a precise one if there is one, else the first."""
        named = [code for code in self.codes if _code_key(code) in _PRECISE] or [
            code for code in self.codes if not code.isdigit()
        ]
        return next(iter(named or self.codes), None)

    def _read(self, item: Any, depth: int) -> None:
        if depth > _MAX_DEPTH:
            return
        if isinstance(item, list):
            for entry in item[:8]:
                self._read(entry, depth + 1)
        elif isinstance(item, str):
            self._add_words(item)
        elif isinstance(item, dict):
            self._fields(item)
            for name in (
                "error",
                "response",
                "detail",
                "details",
                "innererror",
                "metadata",
                "errors",
            ):
                if name in item and not (
                    name == "response" and isinstance(item[name], str)
                ):  # a text there is an answer
                    self._read(item[name], depth + 1)

    def _add_words(self, text: Any) -> None:
        if isinstance(text, str):
            self.message = self.message or text.strip()[:_MESSAGE_CHARS]

    def _fields(self, item: Mapping[str, Any]) -> None:
        for name in ("message", "msg", "error_message"):
            self._add_words(item.get(name))
        raw = item.get("raw")
        if isinstance(raw, str) and self.message == "Provider returned error":
            self.message = f"{self.message}: {raw[:500]}"
        for name in ("code", "type", "reason", "status", "status_code", "error_code"):
            self._code(item.get(name))

    def _code(self, value: Any) -> None:
        if (
            isinstance(value, int | float) and 100 <= value < 1000
        ):  # other values, and NaN, are no HTTP status
            value = str(int(value))
        if (
            not isinstance(value, str)
            or not value
            or value in ("error", "failed", "response.failed")
            or len(self.codes) >= _MAX_CODES
        ):
            return
        self.codes.append(value[:_CODE_CHARS])
        if re.fullmatch(r"[45][0-9]{2}", value) and self.status is None:
            self.status = int(value)


def _class_of(status: int | None, detail: _Detail, message: str, wait_s: float | None) -> Class:
    by_status = _by_status(status)
    plain = [_code_key(code) for code in detail.codes]
    by_code = next((_PRECISE[code] for code in plain if code in _PRECISE), None)
    general = next((_GENERAL[code] for code in plain if code in _GENERAL), None)
    if by_status is None:
        by_words = _first_match(_WORDS if general is None else _SENTENCES, message)
        return by_code or _refined(general, by_words) or Unavailable
    if (
        by_status is ModelNotFound
        and general is InvalidRequest
        and not re.search(r"model|deployment", message, re.IGNORECASE)
    ):
        return InvalidRequest
    # "You have used all your quota" and "wait a minute" are both 429, and Google calls both quota:
    # only a code distinguishes them.
    further = by_code or _first_match(_SENTENCES, message)
    return (
        by_status
        if further is QuotaExhausted and by_status is RateLimited and wait_s
        else _refined(by_status, further) or by_status
    )


def _refined(found: Class | None, further: Class | None) -> Class | None:
    if found is None or further is None:
        return found or further
    return further if further in _MAY_BECOME.get(found, ()) else found


def _first_match(patterns: Iterable[tuple[re.Pattern[str], Class]], message: str) -> Class | None:
    return next((cls for pattern, cls in patterns if pattern.search(message)), None)


def _by_status(status: int | None) -> Class | None:
    if status is None or status < 400:
        return None
    return _STATUS.get(status) or (Unavailable if status >= 500 else InvalidRequest)


def _code_key(code: str) -> str:
    return re.sub(r"[^a-z0-9]", "", code.lower())


def _parse(body: bytes) -> Any:
    text = body.decode("utf-8", "replace").strip()
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        pass
    # Some gateways answer a failed stream request with an event.
    for line in text.splitlines():
        if line.startswith("data:"):
            try:
                return json.loads(line[5:], strict=False)
            except (ValueError, RecursionError):
                return None
    return None


def excerpt(body: bytes) -> str:
    """The beginning of an unreadable text in one line; of an HTML page its title."""
    text = body[:_MAX_READ].decode("utf-8", "replace")
    title = re.search(r"<title>([^<]*)", text, re.IGNORECASE)
    return " ".join((title.group(1) if title else text).split())[:300]
