"""Tell what an image file says of itself, without decoding it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fdf.operator import Columns, Partial, Score
from fdf_ops_vision.image_columns import require_images
from fdf_ops_vision.images import MAX_PIXELS, BadImage, opened, shown_size


@dataclass(frozen=True, kw_only=True)
class ImageInfo(Score):
    """Add what an image's header says: `image_width` and `image_height` in pixels, as its EXIF orientation shows it,
    `image_aspect` (width / height), `image_bytes` (the size of the file), `image_format` and `image_mode`.

    Formats and modes are Pillow's names (`JPEG`, `CMYK`). No pixel is decoded: a truncated file has its size all the
    same, and fails where an operator decodes it. A null image gives nulls; bytes that are no image fail.

    >>> pixel = bytes.fromhex(
    ...     "424d3a000000000000003600000028000000010000000100000001001800000000000400000000000000"
    ...     "000000000000000000000000ffffff00"
    ... )
    >>> made = ImageInfo().score(pa.record_batch({"image": [pixel, None]}))
    >>> made["image_format"].to_pylist(), made["image_width"].to_pylist()
    (['BMP', None], [1, None])
    """

    field: str = "image"
    """The column of image files, as bytes."""
    max_pixels: int = MAX_PIXELS
    """Images with more pixels than this fail."""
    prefix: str = "image_"
    """Put before the names of the new columns."""

    version = "1.0.0"
    modality = "image"

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        """Return the six columns. Raises PlanError where `field` holds no bytes."""
        require_images(schema, self.field, operator="ImageInfo")
        return {f"{self.prefix}{name}": kind for name, kind in _COLUMNS.items()}

    def score(self, batch: pa.RecordBatch) -> Columns:
        """Read headers, one Python object each."""
        column = batch.column(self.field)
        rows = len(column)
        sizes = np.zeros((rows, 2), dtype=np.int32)
        words: list[tuple[str, str] | tuple[None, None]] = [(None, None)] * rows
        errors: list[str | None] = [None] * rows
        there = column.is_valid().to_numpy(zero_copy_only=False)
        for row in np.flatnonzero(there).tolist():
            try:
                with opened(memoryview(column[row].as_buffer()), max_pixels=self.max_pixels) as image:
                    sizes[row] = shown_size(image)
                    words[row] = (image.format or "", image.mode)
            except BadImage as error:
                errors[row] = str(error)
                there[row] = False
        with np.errstate(invalid="ignore", divide="ignore"):
            aspect = sizes[:, 0] / sizes[:, 1]
        found = {
            "width": pa.array(sizes[:, 0], mask=~there),
            "height": pa.array(sizes[:, 1], mask=~there),
            "aspect": pa.array(aspect, pa.float64(), mask=~there),
            "bytes": pc.cast(pc.binary_length(column), pa.int64()),
            "format": pa.array([word[0] for word in words], pa.string()),
            "mode": pa.array([word[1] for word in words], pa.string()),
        }
        columns: Columns = {f"{self.prefix}{name}": values for name, values in found.items()}
        told = pa.array(errors, pa.string())
        return columns if told.null_count == rows else Partial(columns, errors=told)


_COLUMNS: dict[str, pa.DataType] = {
    "width": pa.int32(),
    "height": pa.int32(),
    "aspect": pa.float64(),
    "bytes": pa.int64(),
    "format": pa.string(),
    "mode": pa.string(),
}
