"""Why TLS to the hub failed, in the operator's words. Pure; opens nothing.

What OpenSSL calls a failed verification is one of three facts with three ways out: another CA,
another name, another time. Anything else is left to whoever asks.
"""

from __future__ import annotations

import ssl

_UNKNOWN_CA = frozenset({2, 7, 18, 19, 20, 21})
"""X509_V_ERR_*: no issuer found, a signature that does not hold, self-signed."""
_NOT_YET, _EXPIRED, _HOST, _ADDRESS = 9, 10, 62, 64


def explain(error: BaseException, where: str) -> str | None:
    """What a failed verification of the certificate at `where` means, and what to do; None when
    `error` is of another kind."""
    failure = _verification(error)
    if failure is None:
        return None
    code = failure.verify_code
    if code in _UNKNOWN_CA:
        return (
            f"what answers at {where} shows a certificate of another CA than this account trusts."
            " If the hub goes to another CA, `outrider hub follow` takes its roots over as long as"
            " the former CA is believed; if that was given up, copy the operator configuration"
            " (operator.json) from an account that followed"
        )
    if code in (_HOST, _ADDRESS):
        return (
            f"the certificate at {where} is for other names than this one: use a URL with a name"
            " that `outrider hub init --host` was given"
        )
    if code in (_NOT_YET, _EXPIRED):
        return (
            f"the certificate at {where} is not valid at this time ({failure.verify_message}):"
            " look at the clock here and there; a running hub renews its certificate itself"
        )
    return f"the certificate at {where} is refused: {failure.verify_message}"


def _verification(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """HTTP clients wrap it, more than once."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error
        error = error.__cause__ or error.__context__
    return None
