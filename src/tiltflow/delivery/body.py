"""The body of the callback to the portal's API: the files of a run and their assets.

The models are the contract: a closed set of asset types, paths below the roots of the share, a message with every error and no
assets.  A body that breaks it is never sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic.alias_generators import to_camel

from tiltflow.delivery.layout import Layout
from tiltflow.delivery.publish import publish_text
from tiltflow.delivery.wording import without_server_paths, without_server_paths_in
from tiltflow.errors import DeliveryError
from tiltflow.work import Asset, AssetType, SeriesResult

CALLBACK_NAME = "callback.json"

Mode: TypeAlias = Literal["run", "series"]
"""Whether the results are told all together at the end of a run, or each as its series ends."""


def _encodable(text: Any) -> Any:
    """Replace characters of a file name that is not UTF-8, which JSON cannot hold."""
    return text.encode("utf-8", errors="replace").decode("utf-8") if isinstance(text, str) else text


def _inner(path: str) -> str:
    parts = PurePosixPath(path)
    if not parts.parts or parts.is_absolute() or ".." in parts.parts:
        raise ValueError(f"{path!r} is not a path below the root of the share")
    return path


def _json(value: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"cannot be written as JSON ({error})") from error
    return value


Text = Annotated[str, BeforeValidator(_encodable)]
InnerPath = Annotated[Text, AfterValidator(_inner)]
JsonObject = Annotated[dict[str, Any], AfterValidator(_json)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True, serialize_by_alias=True)


class AssetPart(_Part):
    """One asset; `metadata` is left out, not null, where there is none."""

    type: AssetType
    path: InnerPath
    metadata: JsonObject | None = None

    @model_serializer(mode="wrap")
    def _without_empty_metadata(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = handler(self)
        if self.metadata is None:
            del fields["metadata"]
        return fields


class ImagePart(_Part):
    """One image of a file: here always exactly one, the series itself."""

    image_name: Text
    image_metadata: JsonObject | None = None
    assets: tuple[AssetPart, ...] = ()


class FilePart(_Part):
    """One input and its products."""

    primary_file_path: InnerPath
    status: Literal["success", "error"]
    message: Text | None = None
    thumbnail_index: Literal[0] = 0
    title: Text
    file_metadata: JsonObject | None = None
    image_set: tuple[ImagePart, ...]

    @model_validator(mode="after")
    def _message_and_assets_agree_with_the_status(self) -> Self:
        assets = sum(len(image.assets) for image in self.image_set)
        if self.status == "error" and not self.message:
            raise ValueError("an error needs a message that a scientist can act on")
        if self.status == "error" and assets:
            raise ValueError(f"an error has no assets, but {assets} are given")
        if self.status == "success" and not assets:
            raise ValueError("a success has assets, but none are given")
        if self.status == "success" and self.message is not None:
            raise ValueError("a success has no message")
        return self


class CallbackBody(_Part):
    """All files of a run."""

    files: tuple[FilePart, ...]


Status = Literal["running", "success", "error"]


class StatusBody(_Part):
    """The status message sent before and after the work."""

    status: Status


def build_callback(
    results: Sequence[SeriesResult],
    layout: Layout,
    evidence: Mapping[Path, dict[str, Any]] | None = None,
) -> CallbackBody:
    """Return the body for the results of a run, whose texts hold no paths of the server.

    Parameters
    ----------
    results
        Of all series.
    layout
        Names the files and their types in the portal.
    evidence
        The image metadata of each source.

    Raises
    ------
    DeliveryError
        If a result does not fit the contract.
    """
    try:
        return CallbackBody(files=tuple(_file_part(result, layout, (evidence or {}).get(result.source)) for result in results))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())
        raise DeliveryError(f"The results do not fit the callback: {problems}.") from error


def write_callback(body: CallbackBody, path: Path) -> Path:
    """Write the body to `path`, in full or not at all, and return `path`."""
    publish_text(path, body.model_dump_json(indent=2) + "\n")
    return path


def _file_part(result: SeriesResult, layout: Layout, evidence: dict[str, Any] | None) -> FilePart:
    name = result.source.stem
    assets: tuple[AssetPart, ...] = ()
    if result.ok:
        output = result.output or layout.output_of(result.source)
        assets = tuple(_asset_part(asset, output, layout) for asset in result.assets)
    return FilePart(
        primary_file_path=layout.primary_path(result.source),
        status="success" if result.ok else "error",
        message=None if result.ok or result.message is None else without_server_paths(result.message, layout),
        title=name,
        image_set=(ImagePart(image_name=name, image_metadata=without_server_paths_in(evidence, layout), assets=assets),),
    )


def _asset_part(asset: Asset, output: Path, layout: Layout) -> AssetPart:
    metadata = dict(asset.metadata) if asset.metadata is not None else None
    return AssetPart(type=layout.asset_type(asset), path=layout.asset_path(output, asset), metadata=metadata)
