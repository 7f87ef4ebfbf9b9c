"""Pure: an error in any provider's clothes -> one class of the tree in `base.py`, with what it says about waiting.

Order of evidence: codes that mean one thing whatever the status, then the HTTP status (or the number in the body where HTTP said 200),
then general codes; words only where the rest leaves it open (a full context is told in many ways and with many codes).
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from providers.base import (
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
from providers.hints import retry_after

Class = type[ProviderError]


def _table(rows: Mapping[Class, str]) -> dict[str, Class]:
    return {word: cls for cls, words in rows.items() for word in words.split()}


# Codes are compared in lower case without separators: `RateLimitReached`, `rate_limit_reached` and `rate-limit-reached` are one.
_PRECISE = _table(
    {
        QuotaExhausted: "insufficientquota billinghardlimitreached billingnotactive insufficientbalance insufficientfunds "
        "insufficientcredits paymentrequired quotaexceeded billingerror arrearage creditbalancetoolow",
        ContextLengthExceeded: "contextlengthexceeded exceedcontextsizeerror modelcontextwindowexceeded requesttoolarge "
        "contextwindowexceeded stringabovemaxlength",
        ContentFiltered: "contentfilter contentpolicyviolation responsibleaipolicyviolation datainspectionfailed moderationblocked",
        AuthenticationFailed: "invalidapikey apikeyinvalid authenticationerror incorrectapikey noapikey missingapikey accesstokenexpired",
        ModelNotFound: "modelnotfound deploymentnotfound modelnotavailable modeldecommissioned modelnotexist modeldeprecated",
        RateLimited: "ratelimitexceeded ratelimiterror ratelimitreached toomanyrequests throttlingexception slowdown",
        PermissionDenied: "permissionerror permissiondenied countrynotsupported unsupportedcountryregionterritory",
    }
)
_GENERAL = _table(
    {
        RateLimited: "resourceexhausted requests tokens overloadederror engineoverloaded",
        AuthenticationFailed: "unauthenticated unauthorized authentication",
        PermissionDenied: "forbidden accessdenied accessdeniedexception",
        ModelNotFound: "notfound notfounderror resourcenotfoundexception",
        InvalidRequest: "invalidrequesterror invalidargument badrequest badrequesterror validationexception validationerror "
        "failedprecondition unprocessableentity invalidprompt toolusefailed outofrange",
        Unavailable: "servererror apierror internal internalservererror internalservererrorexception internalserverexception unavailable "
        "serviceunavailable serviceunavailableexception timeouterror timeout deadlineexceeded modelstreamerrorexception networkerror "
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
_CONTEXT = re.compile(
    r"context[ _-]?(?:length|window|size)|maximum context|prompt is too long|too many (?:input )?tokens|input (?:is )?too long"
    r"|exceeds? the (?:model's )?max(?:imum)? (?:input |context )?(?:length|tokens)|reduce the length of|input token count",
    re.IGNORECASE,
)
_WORDS: tuple[tuple[re.Pattern[str], Class], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), cls)
    for pattern, cls in (
        (r"rate.?limit|too many requests|temporarily rate|overloaded|at capacity", RateLimited),
        (r"credit balance is too low|insufficient (?:quota|balance|credits|funds)|quota (?:is )?exceeded|exceeded your .*quota|billing",
         QuotaExhausted),
        (_CONTEXT.pattern, ContextLengthExceeded),
        (r"(?:invalid|incorrect|missing|no) (?:x-)?api[ -]?key|unauthorized|invalid authentication", AuthenticationFailed),
        (r"content (?:filter|policy|management policy)|prohibited content|flagged", ContentFiltered),
        (r"model .{0,200}(?:not found|does not exist|not exist)", ModelNotFound),
    )
)  # fmt: skip


def classify(status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
    """The error that an HTTP answer of 400 and above is. `headers` have lower-case names; `body` may be anything."""
    item = _parse(body)
    detail = _Detail(item)
    message = detail.message or excerpt(body) or f"HTTP {status}"
    cls = _class_of(status, detail, message)
    return cls(message, code=detail.code or str(status), status=status, retry_after_s=retry_after(headers, item))


def classify_stream_error(item: Mapping[str, Any], *, certain: bool = False) -> ProviderError | None:
    """The error that a JSON object in the body of a success is, or None if it is none. `certain`: its surroundings say that it is one."""
    if not certain and not _is_error(item):
        return None
    detail = _Detail(item)
    message = detail.message or excerpt(json.dumps(item, ensure_ascii=False).encode())
    cls = _class_of(detail.status, detail, message)
    return cls(message, code=detail.code, status=detail.status, retry_after_s=retry_after({}, item))


def _is_error(item: Mapping[str, Any]) -> bool:
    return bool(item.get("error")) or item.get("type") == "error" or item.get("object") == "error"


class _Detail:
    """What can be found in an error body: its words, all its codes, and a status in numbers."""

    def __init__(self, item: Any) -> None:
        self.message = ""
        self.codes: list[str] = []
        self.status: int | None = None
        self._read(item, 0)

    @property
    def code(self) -> str | None:
        """The most telling code: a precise one if there is one, else the first."""
        named = [code for code in self.codes if _plain(code) in _PRECISE] or [code for code in self.codes if not code.isdigit()]
        return next(iter(named or self.codes), None)

    def _read(self, item: Any, depth: int) -> None:
        if isinstance(item, list):
            for entry in item[:8]:
                self._read(entry, depth)
        elif isinstance(item, str):
            self.message = self.message or item
        elif isinstance(item, dict) and depth < 4:
            self._fields(item)
            for name in ("error", "response", "detail", "details", "innererror", "metadata", "errors"):
                if name in item:
                    self._read(item[name], depth + 1)

    def _fields(self, item: Mapping[str, Any]) -> None:
        for name in ("message", "msg", "error_message"):
            if isinstance(item.get(name), str) and item[name]:
                self.message = self.message or item[name]
        raw = item.get("raw")
        if isinstance(raw, str) and self.message == "Provider returned error":
            self.message = f"{self.message}: {raw[:500]}"
        for name in ("code", "type", "reason", "status", "status_code", "error_code"):
            self._code(item.get(name))

    def _code(self, value: Any) -> None:
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(int(value))
        if not isinstance(value, str) or not value or value in ("error", "failed", "response.failed"):
            return
        self.codes.append(value)
        if value.isdigit() and len(value) == 3 and 400 <= int(value) <= 599 and self.status is None:
            self.status = int(value)


def _class_of(status: int | None, detail: _Detail, message: str) -> Class:
    plain = [_plain(code) for code in detail.codes]
    for code in plain:
        # "You have used all your quota" and "wait a minute" are both 429; Google calls the second quota, too.
        if code in _PRECISE:
            return _PRECISE[code]
    by_status = _by_status(status)
    general = next((_GENERAL[code] for code in plain if code in _GENERAL), None)
    found = by_status or general
    if found in (None, InvalidRequest, Unavailable):
        return _by_words(message, found) or found or Unavailable
    if found is ModelNotFound and general is InvalidRequest and not re.search(r"model|deployment", message, re.IGNORECASE):
        return InvalidRequest
    return found


def _by_status(status: int | None) -> Class | None:
    if status is None or status < 400:
        return None
    return _STATUS.get(status) or (Unavailable if status >= 500 else InvalidRequest)


def _by_words(message: str, found: Class | None) -> Class | None:
    # A server's own failure is reclassified only by a full context, which llama.cpp calls a server error.
    if found is Unavailable:
        return ContextLengthExceeded if _CONTEXT.search(message) else None
    return next((cls for pattern, cls in _WORDS if pattern.search(message)), None)


def _plain(code: str) -> str:
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
    """The beginning of something unreadable, in one line; of an HTML page its title."""
    text = body.decode("utf-8", "replace")
    title = re.search(r"<title>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
    return " ".join((title.group(1) if title else text).split())[:300]
