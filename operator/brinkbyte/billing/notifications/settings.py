"""Settings of telling people: mail server, text messages, what webhooks may reach."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, SecretStr

from brinkbyte.billing.settings import SecretSettings


class NotificationSettings(SecretSettings):
    """What delivering needs; a channel without settings leaves its deliveries waiting.

    Attributes:
        pepper: as of the server; webhooks are signed with what is derived from it.
        smtp_host: mail server; None: no e-mail is sent.
        smtp_port: its port.
        smtp_security: ``starttls`` (required, not tried), ``tls`` from the first byte, or ``none``.
        smtp_ca_file: PEM of the authority that signed its certificate; the system's if unset.
        smtp_username: of the account; None: none.
        smtp_password: of the account.
        smtp_from: sender, an address or ``Name <address>``.
        sms_url: where text messages are posted to; None: none are sent.
        sms_token: bearer token of it.
        sms_from: sender of text messages.
        portal_url: address of the customer portal, for links in texts.
        webhook_allow_private: also reach loopback and private addresses, and plain HTTP; for tests
            and for a vendor whose customers are inside.
        notification_timeout: seconds that one try may take.
    """

    may_lack: ClassVar[frozenset[str]] = frozenset({"smtp_password", "sms_token", "pepper"})

    pepper: SecretStr | None = None
    smtp_host: str | None = None
    smtp_port: Annotated[int, Field(ge=1, le=65535)] = 587
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    smtp_ca_file: Path | None = None
    smtp_username: str | None = None
    smtp_password: SecretStr | None = None
    smtp_from: Annotated[str, Field(pattern=r"^[^\r\n]{3,200}$")] = (
        "BrinkByte billing <billing@brinkbyte.io>"
    )
    sms_url: Annotated[str, Field(pattern=r"^https?://\S+$")] | None = None
    sms_token: SecretStr | None = None
    sms_from: Annotated[str, Field(max_length=64)] = "BrinkByte"
    portal_url: Annotated[str, Field(pattern=r"^https?://\S+$")] = "https://portal.brinkbyte.io"
    webhook_allow_private: bool = False
    notification_timeout: Annotated[float, Field(gt=0, le=60)] = 10.0
