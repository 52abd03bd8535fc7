"""The ways out: e-mail over SMTP, signed webhooks, text messages over HTTP."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, parseaddr
from typing import Any, Final, Protocol

import aiosmtplib
import httpx

from brinkbyte.billing.notifications.addresses import (
    RefusedAddressError,
    UnresolvedError,
    check_url,
    resolve,
)
from brinkbyte.billing.notifications.settings import NotificationSettings
from brinkbyte.billing.notifications.signing import DELIVERY_HEADER, SIGNATURE_HEADER, sign
from brinkbyte.billing.notifications.texts import Text

_USER_AGENT: Final = "BrinkByte-Billing/1"
_GONE: Final = 410
_PERMANENT_SMTP: Final = 500
_LONGEST_WAIT: Final = 6 * 3600.0


@dataclass(frozen=True)
class Outcome:
    """What became of one try.

    Attributes:
        error: why not; None: the other side took it.
        again: another try may help.
        disable: the target itself is no good, and why.
        unready: our own side lacks something; the target is not to blame.
        retry_after: seconds that the other side asked to wait.
    """

    error: str | None = None
    again: bool = True
    disable: str | None = None
    unready: bool = False
    retry_after: float | None = None


DELIVERED: Final = Outcome()


@dataclass(frozen=True)
class Message:
    """One notification on its way to one target.

    Attributes:
        id: stable over every try: the other side can tell that it has it already.
        document: what a webhook gets.
    """

    id: str
    address: str
    text: Text
    document: Mapping[str, Any]


class SmsSender(Protocol):
    """Sends text messages."""

    async def send(self, message: Message) -> Outcome:
        """Send one; the id lets the other side pass over a repeat."""
        ...


class HttpSmsSender:
    """Text messages by a POST of ``{id, to, from, text}`` to a provider or an adapter of one's own.

    Any 2xx is success; 400 and 422 mean that the number is no good; other answers are tried again.
    ``Idempotency-Key`` is the message's id.
    """

    def __init__(self, client: httpx.AsyncClient, settings: NotificationSettings) -> None:
        self._client = client
        self._settings = settings

    async def send(self, message: Message) -> Outcome:
        """Send one."""
        settings = self._settings
        if settings.sms_url is None:
            return Outcome("text messages are not set up (BRINKBYTE_SMS_URL)", unready=True)
        headers = {"Idempotency-Key": message.id, "User-Agent": _USER_AGENT}
        if settings.sms_token is not None:
            headers["Authorization"] = f"Bearer {settings.sms_token.get_secret_value()}"
        said = {
            "id": message.id,
            "to": message.address,
            "from": settings.sms_from,
            "text": message.text.short,
        }
        try:
            answer = await self._client.post(settings.sms_url, json=said, headers=headers)
        except httpx.HTTPError as error:
            return Outcome(f"the SMS service does not answer: {type(error).__name__}", unready=True)
        if answer.is_success:
            return DELIVERED
        if answer.status_code in (400, 422):
            return Outcome(f"HTTP {answer.status_code}: number refused", again=False)
        if answer.status_code in (401, 403, 404):
            return Outcome(f"the SMS service answers {answer.status_code}", unready=True)
        return Outcome(f"HTTP {answer.status_code}", retry_after=_retry_after(answer))


class WebhookSender:
    """Signed POSTs; each goes to the address that was judged, and follows no redirect."""

    def __init__(self, client: httpx.AsyncClient, settings: NotificationSettings) -> None:
        self._client = client
        self._allow_private = settings.webhook_allow_private

    async def send(self, message: Message, secrets: Sequence[str], now: int) -> Outcome:
        """Send one, signed with each secret."""
        body = json.dumps(message.document, ensure_ascii=False, separators=(",", ":")).encode()
        try:
            host, port = check_url(message.address, allow_private=self._allow_private)
            address = await resolve(host, port, allow_private=self._allow_private)
        except RefusedAddressError as error:
            return Outcome(error.message, again=False, disable=error.message)
        except UnresolvedError as error:
            return Outcome(error.message)
        url = httpx.URL(message.address)
        request = self._client.build_request(
            "POST",
            url.copy_with(host=address),
            content=body,
            headers={
                "Host": url.netloc.decode("ascii"),
                "Content-Type": "application/json",
                "User-Agent": _USER_AGENT,
                SIGNATURE_HEADER: sign(body, secrets, now),
                DELIVERY_HEADER: message.id,
            },
            # The certificate is that of the name, not of the address.
            extensions={"sni_hostname": host},
        )
        try:
            # The answer's body is nothing to us, and may be without end.
            answer = await self._client.send(request, stream=True, follow_redirects=False)
            await answer.aclose()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return Outcome(f"no answer: {type(error).__name__}")
        if answer.is_success:
            return DELIVERED
        if answer.status_code == _GONE:
            reason = "the receiver answered 410 Gone"
            return Outcome(reason, again=False, disable=reason)
        hint = "; redirects are not followed" if answer.is_redirect else ""
        return Outcome(f"HTTP {answer.status_code}{hint}", retry_after=_retry_after(answer))


def _retry_after(answer: httpx.Response) -> float | None:
    text = answer.headers.get("retry-after", "")
    return min(float(text), _LONGEST_WAIT) if text.isdigit() else None


class EmailSender:
    """E-mail, plain and HTML, by one connection a message."""

    def __init__(self, settings: NotificationSettings) -> None:
        self._settings = settings

    def compose(self, message: Message, now: int) -> EmailMessage:
        """Return the message; its Message-ID is the same in every try."""
        email = EmailMessage()
        sender = parseaddr(self._settings.smtp_from)[1]
        email["From"] = self._settings.smtp_from
        email["To"] = message.address
        email["Subject"] = message.text.subject
        email["Date"] = formatdate(now)
        email["Message-ID"] = f"<{message.id}@{sender.rpartition('@')[2] or 'brinkbyte'}>"
        email["Auto-Submitted"] = "auto-generated"
        email.set_content(message.text.plain)
        email.add_alternative(message.text.html, subtype="html")
        return email

    async def send(self, message: Message, now: int) -> Outcome:
        """Send one."""
        settings = self._settings
        if settings.smtp_host is None:
            return Outcome("e-mail is not set up (BRINKBYTE_SMTP_HOST)", unready=True)
        password = settings.smtp_password
        try:
            await aiosmtplib.send(
                self.compose(message, now),
                hostname=settings.smtp_host,
                port=settings.smtp_port,
                username=settings.smtp_username,
                password=None if password is None else password.get_secret_value(),
                use_tls=settings.smtp_security == "tls",
                start_tls=settings.smtp_security == "starttls",
                tls_context=self._tls(),
                timeout=settings.notification_timeout,
            )
        except aiosmtplib.SMTPRecipientsRefused as error:
            return _refused_recipient(error)
        except aiosmtplib.SMTPDataError as error:
            return Outcome(
                f"the mail server answers {error.code}", again=error.code < _PERMANENT_SMTP
            )
        except aiosmtplib.SMTPResponseException as error:
            # Greeting, login or sender: ours to put right.
            return Outcome(f"the mail server refuses us: {error.code}", unready=True)
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            return Outcome(f"the mail server does not answer: {type(error).__name__}", unready=True)
        return DELIVERED

    def _tls(self) -> ssl.SSLContext | None:
        if self._settings.smtp_security == "none":
            return None
        file = self._settings.smtp_ca_file
        return ssl.create_default_context(cafile=None if file is None else str(file))


def _refused_recipient(error: aiosmtplib.SMTPRecipientsRefused) -> Outcome:
    codes = [refusal.code for refusal in error.recipients]
    code = max(codes, default=_PERMANENT_SMTP)
    if code < _PERMANENT_SMTP:
        return Outcome(f"the mail server puts the recipient off: {code}")
    reason = f"the mail server refuses this recipient: {code}"
    return Outcome(reason, again=False, disable=reason)
