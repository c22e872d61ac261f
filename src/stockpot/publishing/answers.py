"""What a service takes and says, as OpenAPI describes it."""

from typing import Any

from pydantic import BaseModel, Field

from stockpot.publishing.bodies import MANY_PHOTOS


class Said(BaseModel):
    """What the model says of one photo; where it cannot be read, `error` alone."""

    name: str = Field(default="", description="The file's name, as it was sent.")
    label: str | None = Field(default=None, description="The likeliest class, also of what is none of them.")
    probability: float | None = Field(default=None, description="Of the label, calibrated.")
    none_of_these: bool | None = Field(
        default=None, description="It resembles no class; left out where the model cannot say."
    )
    probabilities: dict[str, float] | None = Field(default=None, description="Of every class, calibrated.")
    error: str | None = Field(default=None, description="Why the file cannot be read, and what to do.")


class Answers(BaseModel):
    """What the model says of the photos of a request, in their order."""

    predictions: list[Said]


class Problem(BaseModel):
    """Why a request was not answered, and what to do."""

    error: str


PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"model": Problem, "description": text}
    for code, text in (
        (400, "No photo in it, a broken form, or a class that there is not."),
        (408, "It came too slowly."),
        (413, "It is too large."),
        (415, "It is compressed."),
        (422, "Nothing in it is a photo that can be read."),
        (503, "Too much to do: try again."),
    )
}
PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {}}, "description": "The map on the photo."}
}
_FILE = {"type": "string", "format": "binary"}
_FILES = {"type": "array", "maxItems": MANY_PHOTOS, "items": _FILE}
SENT = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": {"schema": _FILE},
            "multipart/form-data": {"schema": {"type": "object", "properties": {"photo": _FILES}}},
        },
    }
}
