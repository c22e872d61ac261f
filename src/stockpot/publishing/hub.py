"""The Hugging Face hub: where `HF_ENDPOINT` says, as whom `hf auth login` or `HF_TOKEN` says."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from stockpot.errors import HubRefused, WrongUse
from stockpot.publishing.folder import FILES

Answer = TypeVar("Answer")
_ITS_CLIENT = ("huggingface_hub", "httpx", "httpcore", "requests", "urllib3", "hf_xet")


def full_name(wanted: str | None, usual: str) -> str:
    """Return what a model is called on the hub.

    Args:
        wanted: `NAME/MODEL`; None for `usual` among the models of whom the token is of.
        usual: any words.

    Raises:
        WrongUse: there cannot be such a name.
        HubRefused: the hub is not reached, or knows no token.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    if wanted is not None:
        try:
            if wanted.count("/") != 1:
                raise HFValidationError
            validate_repo_id(wanted)
        except HFValidationError:
            raise WrongUse(f"{wanted!r} cannot be a model's name on the hub: --to hub:NAME/MODEL") from None
    user = _ask(lambda api: str(api.whoami()["name"]))  # before anything is computed
    plain = re.sub(r"[^A-Za-z0-9_.]+|\.\.+", "-", usual)
    return wanted or f"{user}/{re.sub('--+', '-', plain)[:80].strip('-._') or 'model'}"


def upload(folder: Path, name: str, public: bool, quiet: bool) -> str:
    """Upload a published folder as a model, in place of what was published there before; return its address.

    Args:
        folder: what `fill` wrote.
        name: `NAME/MODEL`.
        public: that everybody may see it; else it is private.
        quiet: that no progress is shown.

    Raises:
        WrongUse: it is there already and public, which was not asked for.
        HubRefused: the hub is not reached, or says no.
    """
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if not public and _ask(lambda api: api.repo_exists(name) and not api.repo_info(name).private):
        raise WrongUse(
            f"{name} is there already, and public: --public, or --to hub:NAME/MODEL with another name"
        )

    def send(api: Any) -> str:
        address = api.create_repo(name, private=not public, exist_ok=True)
        api.upload_folder(
            repo_id=name, folder_path=folder, commit_message="Model and card", delete_patterns=list(FILES)
        )
        return str(address)

    shown = not are_progress_bars_disabled()
    if quiet:
        disable_progress_bars()
    try:
        return _ask(send)
    finally:
        if shown:
            enable_progress_bars()


def _ask(question: Callable[[Any], Answer]) -> Answer:
    """Ask the hub for something.

    Raises:
        HubRefused: it is not reached, knows no token, or says no.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    try:
        return question(HfApi(library_name="stockpot"))
    except LocalTokenNotFoundError:
        raise HubRefused("The hub wants to know who you are: hf auth login, or set HF_TOKEN.") from None
    except HfHubHTTPError as error:
        code = error.response.status_code
        remedy = (
            "hf auth login with a token that may write there" if code in (401, 403) else "try again later"
        )
        raise HubRefused(f"The hub says no (HTTP {code}): {remedy}.") from None
    except Exception as error:
        if not (isinstance(error, OSError) or type(error).__module__.startswith(_ITS_CLIENT)):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise HubRefused(
            f"The hub is not reached ({reason}): publish to a folder, and upload later."
        ) from None
